"""What the caching proxy counts. Every node is one process with one tier, so no series names the tier."""

from __future__ import annotations

from headwater.runtime.metrics import counter, gauge, histogram

REQUESTS = counter(
    "headwater_cache_requests_total",
    "Requests by how the answer was come by (hit, miss, collapsed, revalidated, stale, ...) and status class.",
    ["outcome", "status"],
)
FAST_LANE = counter("headwater_cache_fast_lane_total", "Requests answered by the fast lane; they count among all requests too.")
SENT_BYTES = counter("headwater_cache_sent_bytes_total", "Body bytes sent, by outcome.", ["outcome"])
FIRST_BYTE = histogram(
    "headwater_cache_first_byte_seconds", "Time from the request's header to the answer's header.", ["outcome"]
)
IN_FLIGHT = gauge("headwater_cache_requests_in_flight", "Requests being answered.")
CONNECTIONS = gauge("headwater_connections", "Open connections of clients.")
BYTES_IN_FLIGHT = gauge("headwater_bytes_in_flight", "Bytes that wait to be sent to clients.")
LIMITS_REACHED = counter("headwater_limits_reached_total", "Limits met by clients, by the limit's name.", ["limit"])
REFUSALS = counter("headwater_cache_refusals_total", "Requests refused, by reason.", ["reason"])
CUT_OFF = counter("headwater_cache_cut_off_total", "Clients cut off in the middle of a body, by reason.", ["reason"])

FILLS = counter("headwater_fills_total", "Fills by the state they ended in.", ["state"])
FILLS_RUNNING = gauge("headwater_fills_running", "Fills under way.")
FILL_TROUBLES = counter("headwater_fill_troubles_total", "Parents that failed a fill, by trouble.", ["trouble"])
FILL_RESUMES = counter("headwater_fill_resumes_total", "Fills that went on at a byte offset at another parent.")
FILL_BYTES = counter("headwater_fill_bytes_total", "Body bytes received from parents.")
FILL_DISCARDED = counter("headwater_fill_not_stored_total", "Complete fills that were not stored, by reason.", ["reason"])

SLICES = counter(
    "headwater_slices_total", "Slices read for clients, by where they came from (store, ahead, running_fill, parent).", ["source"]
)
SLICES_AHEAD = counter("headwater_slices_ahead_total", "Slices fetched before a client needed them.")
SLICE_VERSIONS_DROPPED = counter(
    "headwater_slice_versions_dropped_total",
    "Objects whose version a parent disproved while slices of it were fetched.",
)

RAM_BYTES = gauge("headwater_store_ram_bytes", "Body bytes in memory.")
DISK_BYTES = gauge("headwater_store_disk_bytes", "Bytes of object files on disk.")
DISK_RESERVED = gauge("headwater_store_disk_reserved_bytes", "Bytes set aside on disk for objects that are being written.")
RAM_RESERVED = gauge("headwater_store_ram_reserved_bytes", "Bytes set aside in memory for fills under way.")
RAM_PAGES = gauge("headwater_store_ram_pages", "Bodies in memory that lie as pages for sendfile; each holds a file open.")
DISK_OBJECTS = gauge("headwater_store_disk_objects", "Objects on disk.")
SPOOLS_PASSING = counter("headwater_fills_passing_total", "Fills that found no room to be held and passed through unstored.")
LOOKUPS = counter("headwater_store_lookups_total", "Look-ups by where the object was found.", ["place"])
EVICTIONS = counter("headwater_store_evictions_total", "Objects removed from disk to make room.")
DISK_TROUBLES = counter(
    "headwater_store_disk_troubles_total",
    "Disk reads and writes that failed or found damage; the object was fetched.",
    ["trouble"],
)
PURGE_SEQUENCE = gauge("headwater_purge_sequence", "The latest purge that this node has carried out.")
PURGE_RECORDS = gauge("headwater_purge_records", "Purge records that look-ups are checked against.")
PURGED_OBJECTS = counter(
    "headwater_purged_objects_total", "Objects that a look-up found purged (gone) or made stale by a soft purge.", ["coverage"]
)
PURGE_REPLAYS = counter(
    "headwater_purge_replays_total", "Questions to control for the purges that this node missed, by outcome.", ["outcome"]
)
GRANTS_CHECKED = counter("headwater_grants_total", "Grants by whether they were remembered or verified anew.", ["how"])

WARM_OBJECTS = counter(
    "headwater_warm_objects_total", "Objects that control ordered to be fetched ahead, by what became of them.", ["outcome"]
)
WARM_BYTES = counter("headwater_warm_bytes_total", "Body bytes fetched ahead.")
WARM_SOURCE = counter(
    "headwater_warm_source_total", "Objects that other caches asked this one for, to have them ahead, by outcome.", ["outcome"]
)

AHEAD_BYTES = counter(
    "headwater_ahead_bytes_total", "Body bytes that came before anybody asked for them, by why they were fetched.", ["why"]
)
AHEAD_USED_BYTES = counter(
    "headwater_ahead_used_bytes_total",
    "Bytes of objects fetched ahead that were then asked for, by why they were fetched.",
    ["why"],
)
PREFETCH_SKIPPED = counter(
    "headwater_prefetch_skipped_total",
    "Objects that viewers will want next and that were not fetched ahead, by reason.",
    ["reason"],
)

WORKER_ASKS = counter(
    "headwater_worker_asks_total",
    "Objects that workers asked the owners of their keys for, by how these came by them.",
    ["outcome"],
)
WORKER_MESSAGES = counter("headwater_worker_messages_total", "Messages to other workers of the node, by outcome.", ["outcome"])
