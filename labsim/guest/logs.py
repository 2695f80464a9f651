"""logs_sender: tell the service, collect, upload, tell again. Source: host-lifecycle 3.2 and 6.5."""

from __future__ import annotations

import gzip
import io
import tarfile

from labsim.guest.effects import ConnectionFailed, HttpAnswer, Now, Task
from labsim.guest.service import ServiceClient
from labsim.guest.steps.context import StepContext

BOUNDARY = "labsim-host-logs"
UPLOAD_TIMEOUT_S = 600.0


def send_logs(context: StepContext, client: ServiceClient, cluster_id: str) -> Task[bool]:
    """Upload the host's journal; whether the service took it. Logs that cannot be sent never fail an installation."""
    host_path = f"/v2/infra-envs/{context.infra_env_id}/hosts/{context.host_id}/logs-progress"
    query = f"logs_type=host&host_id={context.host_id}&infra_env_id={context.infra_env_id}"
    taken = False
    try:
        yield from client.call("PUT", host_path, {"logs_state": "requested"})
        yield from client.call("PUT", host_path, {"logs_state": "collecting"})
        now_s: float = yield Now()
        archive = pack_journal("\n".join(context.journal), context.host_id, now_s)
        answer: HttpAnswer = yield from client.call(
            "POST",
            f"/v2/clusters/{cluster_id}/logs?{query}",
            raw=multipart("upfile", f"{context.host_id}.tar.gz", archive),
            content_type=f"multipart/form-data; boundary={BOUNDARY}",
            timeout_s=UPLOAD_TIMEOUT_S,
        )
        taken = answer.status < 300
        yield from client.call("PUT", host_path, {"logs_state": "completed"})
    except ConnectionFailed as error:
        yield from context.log(f"cannot send logs: {error}", "logs_sender")
    return taken


def pack_journal(journal: str, host_id: str, now_s: float) -> bytes:
    """A tar.gz with the journal in it; equal content gives equal bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        data = journal.encode()
        entry = tarfile.TarInfo(f"{host_id}/agent.logs")
        entry.size, entry.mtime = len(data), int(now_s)
        archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def multipart(field: str, file_name: str, data: bytes) -> bytes:
    head = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
