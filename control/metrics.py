"""What control counts."""

from __future__ import annotations

from headwater.runtime.metrics import counter, gauge, histogram

CONFIG_READS = counter("headwater_control_config_reads_total", "Edits of the config file, by what became of them.", ["outcome"])
CONFIG_PROBLEMS = gauge("headwater_control_config_problems", "Problems of the config file as it is now; 0 when it is in force.")
KEY_READ_FAILURES = counter("headwater_control_key_read_failures_total", "Readings of the key ring that failed.")
PUBLISHED = counter("headwater_control_snapshots_published_total", "Snapshots published.")
PUBLISHED_VERSION = gauge("headwater_control_snapshot_version", "Version of the latest published snapshot.")
WAITING = gauge("headwater_control_waiting_polls", "Nodes' questions for a newer snapshot that wait for one.")
POLLS = counter("headwater_control_polls_total", "Nodes' questions for a newer snapshot, by outcome.", ["outcome"])
CHECKS = counter("headwater_control_health_checks_total", "Health checks, by node and outcome.", ["node", "outcome"])
NODE_UP = gauge("headwater_control_node_up", "1 when the node is up, 0 when it is down, -1 while it is unknown.", ["node"])
PURGES = counter("headwater_control_purges_total", "Purges ordered, by whether every node acknowledged.", ["outcome"])
PURGE_SECONDS = histogram("headwater_control_purge_seconds", "Time from the order of a purge to the last node's answer.")
CHECK_SECONDS = histogram("headwater_control_health_check_seconds", "Duration of health checks.")
LOAD_READS = counter(
    "headwater_control_load_reads_total", "Questions to edges for their load by bucket, by outcome.", ["outcome"]
)
BUCKETS_PASSED = gauge(
    "headwater_control_buckets_passed", "Buckets that nodes over their bound pass on, of edges and of POPs.", ["level"]
)
AUDITED = counter("headwater_control_changes_total", "Changes in the audit log, by kind.", ["what"])
ROLLOUTS = counter("headwater_control_rollouts_total", "Rollouts that ended, by how.", ["outcome"])
ROLLOUT_STEP = gauge("headwater_control_rollout_step", "The running rollout's step, from 1; 0 when there is none.")
PLANS = counter("headwater_control_plans_total", "Plans made, by whether they hold.", ["outcome"])
PREPOSITIONED = counter(
    "headwater_control_prepositioned_bytes_total", "Bytes that edges fetched in nightly windows, by region.", ["region"]
)
AHEAD_USE_RATIO = gauge(
    "headwater_control_ahead_use_ratio",
    "Of the bytes that a region's edges fetched ahead since they began, the share that was then asked for; by why.",
    ["region", "why"],
)
HANDED_OVER = counter("headwater_control_handoff_bytes_total", "Bytes that edges fetched ahead of viewers who moved to them.")
TOKENS_REFUSED = counter(
    "headwater_control_tokens_refused_total", "Operators' requests refused for their token, by reason.", ["reason"]
)
ENROLMENTS = counter(
    "headwater_control_enrolments_total", "Nodes' questions for a certificate: enrolled, renewed, or why not.", ["outcome"]
)
CERTIFICATES_REFUSED = counter(
    "headwater_control_certificates_refused_total",
    "Nodes' other questions that were refused for their certificate, by reason.",
    ["reason"],
)
CERTIFICATE_EXPIRES = gauge(
    "headwater_control_certificate_expires_timestamp_seconds",
    "When (Unix time) each enrolled node's latest certificate expires; 0 once it is revoked.",
    ["node"],
)
LOG_FOLLOWERS = gauge("headwater_control_log_followers", "Operators that follow nodes' logs.")
