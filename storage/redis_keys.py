"""Every key that Darkroom uses in Redis is spelled here and nowhere else.

arq's own prefixes are kept for what is arq's, so that its tools can look at the queues. The tags in
braces keep the keys of one tenant together.
"""

import hashlib
import zlib

from arq.constants import in_progress_key_prefix, job_key_prefix


IMAGE_QUEUE = "arq:queue"
WEBHOOK_QUEUE = "arq:queue:webhooks"

# A score below this is a place in the fair order of waiting jobs; above, it is a moment in Unix
# milliseconds: when a lease runs out or a deferred job is due.
FIRST_MOMENT = 1_000_000_000_000

APPOINTMENTS = "darkroom:appointments"
CANCELS = "darkroom:cancels"
STALLS = "darkroom:stalls"
ACTS = "darkroom:acts"
KEYS_USED = "darkroom:keys-used"
STANDING = "darkroom:standing"
SWEEP = "darkroom:sweep"
TENANTS = "darkroom:tenants"
REMOVALS = "darkroom:removals"
DEPLOYMENTS_ON = "darkroom:deployments-on"
TRAFFIC = "darkroom:traffic"
DELIVERY_PREFIX = "darkroom:delivery:"
LANE_PREFIX = "darkroom:lane:"
FULL_LANES = "darkroom:lanes-full"
IN_PROGRESS_PREFIX = in_progress_key_prefix
PAYLOAD_PREFIX = job_key_prefix
JOB_PREFIX = "darkroom:job:"


def job(job_id: str) -> str:
    """Return the key of a job's record."""
    return f"{JOB_PREFIX}{job_id}"


def changes(job_id: str) -> str:
    """Return the channel on which each change of a job is told; many jobs share one.

    A process that waits for many jobs stays on a few channels, instead of joining and leaving one
    for each job.
    """
    return f"darkroom:changes:{zlib.crc32(job_id.encode()) % 64:02d}"


def partial(job_id: str, index: int, sequence: int) -> str:
    """Return the key of one preview on the way to an image; it lives for a minute."""
    return f"darkroom:partial:{job_id}:{index}:{sequence}"


def file(file_id: str) -> str:
    """Return the key of the record of an uploaded file."""
    return f"darkroom:file:{file_id}"


def files_of(tenant: str) -> str:
    """Return the key of a tenant's uploaded files, the oldest first."""
    return f"darkroom:{{{tenant}}}:files"


def jobs_of(tenant: str) -> str:
    """Return the key of a tenant's jobs, the oldest first."""
    return f"darkroom:{{{tenant}}}:jobs"


def batch(batch_id: str) -> str:
    """Return the key of a batch's record."""
    return f"darkroom:batch:{batch_id}"


def batches_of(tenant: str) -> str:
    """Return the key of a tenant's batches, the oldest first."""
    return f"darkroom:{{{tenant}}}:batches"


def delivery(delivery_id: str) -> str:
    """Return the key of a delivery's record."""
    return DELIVERY_PREFIX + delivery_id


def deliveries_of(tenant: str, status: str) -> str:
    """Return the key of a tenant's deliveries of one status, the oldest first."""
    return f"darkroom:{{{tenant}}}:deliveries:{status}"


def endpoints_of(tenant: str) -> str:
    """Return the key of all that is known of a tenant's webhook endpoints."""
    return f"darkroom:{{{tenant}}}:webhook-endpoints"


def generation_field(tenant: str) -> str:
    """Return the field, beside the flows of a queue, of a tenant's generation of endpoints."""
    return f"endpoints of {tenant}"


def endpoint_counts(endpoint_id: str) -> str:
    """Return the key of what became of an endpoint's messages."""
    return f"darkroom:webhook-endpoint:{endpoint_id}:counts"


def public_keys(keyring_id: str) -> str:
    """Return the key of the public keys of a keyring."""
    return f"darkroom:public-keys:{keyring_id}"


def replays_running(tenant: str) -> str:
    """Return the key of the ids of a tenant's replays that are being carried out."""
    return f"darkroom:{{{tenant}}}:replays-running"


def replay(replay_id: str) -> str:
    """Return the key of a replay's record."""
    return f"darkroom:replay:{replay_id}"


def idempotency(tenant: str, key: str) -> str:
    """Return the key under which one Idempotency-Key of a tenant is remembered, by its digest."""
    return f"darkroom:{{{tenant}}}:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"


def bill(tenant: str, day: str, model: str) -> str:
    """Return the key of a tenant's bill of one day and model: four counters."""
    return f"darkroom:{{{tenant}}}:bill:{day}:{model}"


def bills_of(tenant: str) -> str:
    """Return the key of the index of a tenant's bills, the oldest first."""
    return f"darkroom:{{{tenant}}}:bills"


def committed(tenant: str, day: str) -> str:
    """Return the key of what a tenant with a daily limit has spent or set aside on a day."""
    return f"darkroom:{{{tenant}}}:committed:{day}"


def committed_by(key_id: str, day: str) -> str:
    """Return the key of what has been spent or set aside on a day with an API key with a limit."""
    return f"darkroom:key:{key_id}:committed:{day}"


def removal(tenant: str) -> str:
    """Return the key that is there while somebody takes a step in a tenant's removal."""
    return f"darkroom:{{{tenant}}}:removal"


def seats(tenant: str) -> tuple[str, str, str]:
    """Return the keys of a tenant's seats: how many, the jobs that have one, those that stand.

    The first is there when the tenant's jobs at work are limited, the others when it has any limit.
    """
    prefix = f"darkroom:{{{tenant}}}:seats"
    return prefix, f"{prefix}:taken", f"{prefix}:standing"


def rate(tenant: str, name: str) -> str:
    """Return the key under which one of a tenant's rates is counted."""
    return f"darkroom:{{{tenant}}}:rate:{name}"


def api_key(key_id: str) -> str:
    """Return the key of an API key's record."""
    return f"darkroom:key:{key_id}"


def api_keys_of(tenant: str) -> str:
    """Return the key of the ids of a tenant's API keys."""
    return f"darkroom:{{{tenant}}}:keys"


def wake(queue: str) -> str:
    """Return the list of wake-up tokens of a queue."""
    return f"{queue}:wake"


def timely(queue: str) -> str:
    """Return the list of wake-up tokens for tasks of those who do not crowd a queue."""
    return f"{queue}:timely"


def flows(queue: str) -> str:
    """Return the hash in which the fair order of a queue is kept."""
    return f"{queue}:flows"


def payload(task_id: str) -> str:
    """Return arq's key of what a queued task is."""
    return job_key_prefix + task_id


def in_progress(task_id: str) -> str:
    """Return arq's key of who runs a task; it lives as long as the lease."""
    return in_progress_key_prefix + task_id


def gate(deployment: str) -> tuple[str, str, str, str]:
    """Return the keys of a deployment's gate: state, leases, room and the order in the room."""
    prefix = f"darkroom:gate:{deployment}"
    return f"{prefix}:state", f"{prefix}:leases", f"{prefix}:room", f"{prefix}:order"
