"""What the DNS server counts."""

from __future__ import annotations

from headwater.runtime.metrics import counter, gauge, histogram

QUERIES = counter(
    "headwater_dns_queries_total",
    "Messages received, by transport, type asked (rare ones as OTHER) and outcome.",
    ["transport", "qtype", "outcome"],
)
STEERED = counter(
    "headwater_dns_steered_total",
    "Answers for logical hosts, by the viewer's region and by what told it (client subnet or resolver).",
    ["region", "known_by"],
)
TRUNCATED = counter("headwater_dns_truncated_total", "Answers too large for UDP, sent empty with TC so that TCP is used.")
ANSWER_SECONDS = histogram(
    "headwater_dns_answer_seconds",
    "Time to make an answer that was not in memory.",
    buckets=(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05),
)
REMEMBERED = counter("headwater_dns_remembered_total", "Answers given from memory, within one snapshot.")
LIMITED = counter(
    "headwater_dns_rate_limited_total",
    "Answers over UDP beyond `dns.rate_limit`, by what was done: truncated, badcookie or dropped.",
    ["outcome"],
)
COOKIES = counter("headwater_dns_cookies_total", "Queries with a COOKIE option, by what it held.", ["shown"])
TCP_CONNECTIONS = gauge("headwater_dns_tcp_connections", "Open TCP connections.")
TCP_ENDED = counter("headwater_dns_tcp_ended_total", "TCP connections that ended, by how.", ["how"])
REDIRECTS = counter(
    "headwater_route_redirects_total", "Answers of /route by the viewer's region and by outcome.", ["region", "outcome"]
)
UNSENT = counter("headwater_dns_unsent_total", "Replies that the kernel did not take, such as to a network without a route.")
GEO_BUILT = gauge("headwater_dns_geo_database_built_seconds", "When the database of networks in use was made (unix time).")
STEERING_MANIFESTS = counter("headwater_steering_manifests_total", "Steering manifests given at the door, by region.", ["region"])
ZONE_KEYS = gauge(
    "headwater_dns_zone_keys", "Keys of the signed zone, by role (ksk, zsk) and by state of their rollover.", ["role", "state"]
)
KEY_STEPS = counter("headwater_dns_key_steps_total", "Steps of key rollovers made by this server.", ["role", "step"])
KEY_TROUBLES = counter(
    "headwater_dns_key_troubles_total",
    "Looks at the zone's keys that failed (the keys read before stay in use), and questions to the parent without an answer.",
    ["what"],
)
