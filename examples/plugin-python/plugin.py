#!/usr/bin/python3
"""A plugin of Posthorn in Python. What is yours is transform; the rest is the
protocol of docs/plugins.md, complete, to be kept as it is."""

import base64
import concurrent.futures
import datetime
import json
import os
import signal
import sys
import tempfile
import threading
import traceback

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import plugin_pb2 as pb


class Skip(Exception):
    """Drops the event. Its text is the reason."""


class Reject(Exception):
    """Fails the event for good: no retry can mend it. Its text is the reason."""


def transform(event):
    """Returns a pb.Change with what is to differ. Any exception but Skip and
    Reject fails the event's deliveries, which are tried again."""
    employee = json.loads(event.payload)
    if not isinstance(employee, dict):
        raise Reject("payload is no object")
    if employee.get("test"):
        raise Skip("a test account")
    employee["name"] = str(employee.get("name", "")).upper()
    return pb.Change(payload=json.dumps(employee).encode())


def line(text):
    """Returns text as one short line of valid UTF-8."""
    return " ".join(text.encode(errors="replace").decode().split())[:250]


def answer(event):
    try:
        return pb.Result(change=transform(event))
    except Skip as e:
        return pb.Result(skip=pb.Skip(reason=line(str(e))))
    except Reject as e:
        return pb.Result(failure=pb.Failure(message=line(str(e)), final=True))
    except Exception as e:  # its text is kept back: it may quote the payload
        print(type(e).__name__, *traceback.format_tb(e.__traceback__), file=sys.stderr, flush=True)
        return pb.Result(failure=pb.Failure(message=type(e).__name__))


def service(name, method, function, request=bytes, response=bytes):
    """Returns a gRPC service of one method. Messages are bytes unless request
    and response say how they are read and written."""
    handler = grpc.unary_unary_rpc_method_handler(
        lambda message, context: function(message), request_deserializer=request, response_serializer=response)
    return grpc.method_handlers_generic_handler(name, {method: handler})


def certificate():
    """Returns a key and its self-signed certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1)).not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, cert


def main():
    if os.environ.get("POSTHORN_PLUGIN") != "posthorn-transformer":
        sys.exit("This program is a plugin of Posthorn, which starts it itself.")
    parent = os.getppid()  # the relay, or what started this for it
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the relay says by Shutdown when it is time
        signal.signal(ignored, signal.SIG_IGN)
    stopped = threading.Event()

    def shutdown(_):
        stopped.set()
        return b""

    limit = int(os.environ.get("POSTHORN_PLUGIN_MAX_MESSAGE", 16 << 20))
    pool = concurrent.futures.ThreadPoolExecutor(8)
    server = grpc.server(pool, options=[("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit)])
    server.add_generic_rpc_handlers((
        service("posthorn.plugin.v1.Transformer", "Transform",
                lambda request: pb.TransformResponse(results=[answer(event) for event in request.events]),
                pb.TransformRequest.FromString, pb.TransformResponse.SerializeToString),
        service("grpc.health.v1.Health", "Check", lambda _: b"\x08\x01"),  # SERVING
        service("plugin.GRPCController", "Shutdown", shutdown),
    ))

    key, cert = certificate()
    credentials = grpc.ssl_server_credentials(
        [(key, cert.public_bytes(serialization.Encoding.PEM))],
        root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(), require_client_auth=True)
    with tempfile.TemporaryDirectory(prefix="plugin", dir=os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or None) as folder:
        address = os.path.join(folder, "socket")
        server.add_secure_port("unix:" + address, credentials)
        server.start()
        der = base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).decode().rstrip("=")
        print(f"1|1|unix|{address}|grpc|{der}", flush=True)
        os.dup2(2, 1)  # what is printed from now on goes to the relay's log

        while os.getppid() == parent and not stopped.wait(0.25):
            pass
        server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
