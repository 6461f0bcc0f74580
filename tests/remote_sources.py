"""An S3 server on this machine (moto), a faulty proxy before it, and a web server of a folder."""

import http.client
import logging
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from web_servers import Quiet, serving

BUCKET = "films"


class Bucket:
    """A bucket of moto's server, and the faults that the next readings of an object meet."""

    def __init__(self, client, proxy):
        self.client, self.proxy = client, proxy

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


class Proxy(Quiet):
    """Hand requests on to moto; `plan` holds what befalls the next GET of an object."""

    protocol_version = "HTTP/1.1"
    target: tuple[str, int] = ("", 0)
    plan: list = []
    fetched: list = []
    offline = False

    def handle_any(self):
        if type(self).offline:
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        behind = http.client.HTTPConnection(*self.target)
        headers = {key: value for key, value in self.headers.items() if key != "Host"}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        data, status = answer.read(), answer.status
        behind.close()
        fault = None
        key = self.path.partition("?")[0].strip("/").partition("/")[2]
        if self.command == "GET" and key:
            type(self).fetched.append((key, self.headers.get("Range")))
            fault = self.plan.pop(0) if self.plan else None
        if callable(fault):
            fault()
            fault = None
        if fault == "busy":
            data, status = b"<Error><Code>SlowDown</Code></Error>", 503
        if fault == "wrong":
            data = bytes(len(data))
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any


@pytest.fixture(scope="module")
def moto_port():
    threaded = pytest.importorskip("moto.moto_server.threaded_moto_server")
    pytest.importorskip("s3fs")
    server = threaded.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def bucket(moto_port, monkeypatch):
    import botocore.session
    import fsspec
    import s3fs

    plan, fetched = [], []
    handler = type(
        "Faulty",
        (Proxy,),
        {"target": ("127.0.0.1", moto_port), "plan": plan, "fetched": fetched, "offline": False},
    )
    with serving(handler) as port:
        settings = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "an-access-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        direct = f"http://127.0.0.1:{moto_port}"
        client = botocore.session.get_session().create_client("s3", endpoint_url=direct)
        client.create_bucket(Bucket=BUCKET)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        yield Bucket(client, handler)
        for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=one["Key"])
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def web(folder: Path):
    """Serve a folder as a plain web server does, with pages that list its files, and no ranges."""

    class Files(Quiet, SimpleHTTPRequestHandler):
        pass

    with serving(partial(Files, directory=str(folder))) as port:
        yield f"http://127.0.0.1:{port}"
