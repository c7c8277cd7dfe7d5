"""Run Swift's four servers in one process, until nobody holds its standard input.

usage: serve.py FOLDER ACCESS_KEY SECRET_KEY REGION

Runs in an environment of its own, where the tests' libraries are not. Prints one line of JSON once
all sockets listen; a server whose tests were killed ends with them, as its input is closed.
"""
# ruff: noqa: E402 — eventlet patches the sockets before anything else is imported

import datetime as dt
import ipaddress
import json
import logging
import os
import sys
from pathlib import Path

from swift.common.utils import monkey_patch


monkey_patch()  # before anything else opens a socket

import eventlet
import eventlet.hubs
import eventlet.wsgi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eventlet.green import socket, ssl
from swift.common.http_protocol import SwiftHttpProtocol
from swift.common.ring import RingBuilder
from swift.common.utils import set_swift_dir
from swift.common.wsgi import loadapp


LOOPBACK = "127.0.0.1"
KINDS = ("account", "container", "object")
# A busy machine must not lose an entry of a listing to Swift's usual one second.
PATIENCE = "conn_timeout = 20\nnode_timeout = 60\ncontainer_update_timeout = 60\n"
COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
"""
STORAGE = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_limit = 1000000
{patience}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def main(folder: Path, access_key: str, secret: str, region: str) -> None:
    account, user = access_key.split(":")
    sockets = {kind: listen() for kind in KINDS}
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    common = COMMON.format(folder=folder)
    for kind, sock in sockets.items():
        write_ring(folder, kind, sock.getsockname()[1])
        text = common + STORAGE.format(kind=kind) + PATIENCE
        (folder / f"{kind}-server.conf").write_text(text)
    values = {"region": region, "account": account, "user": user, "secret": secret}
    proxy = common + PROXY.format(patience=PATIENCE, **values)
    (folder / "proxy-server.conf").write_text(proxy)

    set_swift_dir(str(folder))
    plain, tls = listen(), listen()
    ca = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca)
    secured = context.wrap_socket(tls, server_side=True)
    for kind, sock in [*sockets.items(), ("proxy", plain), ("proxy", secured)]:
        eventlet.spawn(serve, str(folder / f"{kind}-server.conf"), sock)
    ports = {"port": plain.getsockname()[1], "tls_port": secured.getsockname()[1], "ca": str(ca)}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()

    while True:
        eventlet.hubs.trampoline(sys.stdin.fileno(), read=True)
        if not os.read(sys.stdin.fileno(), 1024):
            os._exit(0)  # nothing here is worth an orderly end


def serve(conf: str, sock: socket.socket) -> None:
    """Serve as Swift itself does; its own function for that would start a second event loop."""
    eventlet.wsgi.server(
        sock,
        loadapp(conf),
        logging.getLogger("wsgi"),
        protocol=SwiftHttpProtocol,
        capitalize_response_headers=False,  # "Etag" is no ETag to some clients
        log_output=False,
    )


def listen() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((LOOPBACK, 0))
    sock.listen(128)
    return sock


def write_ring(folder: Path, kind: str, port: int) -> None:
    """One device, one replica: a ring that is a point."""
    builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
    builder.add_dev(
        {
            "id": 0,
            "region": 1,
            "zone": 1,
            "ip": LOOPBACK,
            "port": port,
            "replication_ip": LOOPBACK,
            "replication_port": port,
            "device": "d1",
            "weight": 1.0,
        }
    )
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def write_certificate(folder: Path) -> Path:
    """One file with the key and its self-signed certificate for loopback, good for one day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "s3 server of the tests")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "tls.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
