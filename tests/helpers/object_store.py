"""A real object store on loopback, a web server of files, and a gate that fails at will."""

import base64
import hashlib
import http.client
import json
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from servers import Server

CODES = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}  # of S3
# Of the connection alone, not of the answer.
OWN_HEADERS = ("connection", "transfer-encoding", "content-length", "date", "server")


class ObjectStore(Server):
    """moto's server, which speaks S3, in a process of its own."""

    def __init__(self, log):
        super().__init__([], "moto-api/", log)
        self.command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
        self.command += ["-p", str(self.port)]


class Serving:
    """An HTTP server on loopback in threads, as a context."""

    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def file_server(folder):
    """A web server of the files in a folder."""
    return Serving(partial(Silent, directory=folder))


class Google(Silent):
    """The two calls of Google's JSON API that reading needs, for the files below a folder."""

    def do_GET(self):
        address = urlsplit(self.path)
        query, parts = parse_qs(address.query), address.path.strip("/").split("/")
        if "alt" in query:  # .../o/<name>?alt=media
            file = Path(self.directory, unquote(parts[-1]))
            self._say(file.read_bytes() if file.is_file() else None)
            return
        if parts[-1] != "o":
            self._say(None)
            return
        prefix = query.get("prefix", [""])[0]
        found = {
            str(file.relative_to(self.directory)): file.read_bytes()
            for file in sorted(Path(self.directory).rglob("*"))
            if file.is_file()
        }
        items = [
            {
                "name": name,
                "bucket": "bucket",
                "size": str(len(data)),
                "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
                "etag": "CAE=",
            }
            for name, data in found.items()
            if name.startswith(prefix)
        ]
        self._say(json.dumps({"items": items}).encode())

    def _say(self, data):
        self.send_response_only(404 if data is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")


def google_store(folder):
    """A stand-in for Google Cloud Storage; every bucket holds the files in a folder."""
    return Serving(partial(Google, directory=folder))


class Gate(Serving):
    """A proxy to a local HTTP server that counts requests, and can fail or be slow.

    Attributes
    ----------
    requests : list of (method, path)
        All that were made.
    answer : callable
        Called with method and path. Returns None to pass the request on, a status to answer with
        it, or 0 to cut the connection.
    seconds : float
        How long each request is held back.
    most_at_once : int
        Largest number of requests that were open at a time.
    """

    def __init__(self, port):
        super().__init__(partial(Passing, self))
        self.target = port
        self.seconds = 0.0
        self.most_at_once = self.n_open = 0
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        """Forget all requests, and pass on those that come."""
        self.requests = []
        self.answer = lambda method, path: None

    @property
    def images(self):
        """The paths of all images that were read, in order."""
        return [path for method, path in self.requests if method == "GET" and ".png" in path]


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, gate, *args):
        self.gate = gate
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        gate = self.gate
        with gate.lock:
            gate.requests.append((self.command, self.path))
            status = gate.answer(self.command, self.path)
            gate.n_open += 1
            gate.most_at_once = max(gate.most_at_once, gate.n_open)
        try:
            time.sleep(gate.seconds)
            if status == 0:
                self.close_connection = True
            elif status is not None:
                error = f"<Error><Code>{CODES[status]}</Code><Message>no</Message></Error>"
                self._say(status, [("Content-Type", "application/xml")], error.encode())
            else:
                self._pass()
        finally:
            with gate.lock:
                gate.n_open -= 1

    do_HEAD = do_GET  # noqa: N815

    def _pass(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.gate.target)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        headers = [pair for pair in answer.getheaders() if pair[0].lower() not in OWN_HEADERS]
        self._say(answer.status, headers, data, answer.getheader("Content-Length"))
        connection.close()

    def _say(self, status, headers, data, length=None):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", length if is_head and length else str(len(data)))
        self.end_headers()
        if not is_head:
            self.wfile.write(data)
