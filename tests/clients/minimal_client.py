"""``minimal_client.py STATE_DIRECTORY``: attach to a container, written from protocol.md alone."""

import os
import secrets
import socket
import sys

import msgpack

CREDIT = 1 << 20
STREAMS = {"stdout": 1, "stderr": 2}


class Client:
    """How much output we were given, and which stdin the container does not have yet."""

    def __init__(self):
        self.since, self.stream_id, self.key = "start", "", secrets.token_bytes(16)
        self.unacked, self.acked, self.reading = b"", 0, True

    def connect(self):
        self.peer, self.buffer, self.window = socket.socket(socket.AF_UNIX), b"", 0
        self.peer.connect("attach.sock")
        asked = {"since": self.since, "stream_id": self.stream_id, "key": self.key}
        self.say("hello", version=1, credit=CREDIT, **asked)

    def say(self, tag, **fields):
        payload = msgpack.packb({"type": tag, **fields})
        self.peer.sendall(len(payload).to_bytes(4, "big") + payload)

    def hear(self):
        data = self.peer.recv(1 << 18)
        if not data:
            raise ConnectionError("the server is gone, its successor will answer")
        self.buffer += data
        while len(self.buffer) >= 4 + (size := int.from_bytes(self.buffer[:4], "big")):
            yield msgpack.unpackb(self.buffer[4 : 4 + size])
            self.buffer = self.buffer[4 + size :]

    def read_stdin(self):
        data = os.read(0, min(self.window - len(self.unacked), 1 << 16))
        offset, self.unacked = self.acked + len(self.unacked), self.unacked + data
        self.say("stdin", offset=offset, data=data) if data else self.end_stdin()

    def end_stdin(self):
        self.reading = False
        self.say("stdin_eof", offset=self.acked + len(self.unacked))

    def obey(self, tag, m):
        if tag == "welcome":
            self.stream_id, self.window = m["stream_id"], m["stdin_window"]
            if m["stdin"] != "closed":
                self.say(
                    "stdin", offset=m["stdin_offset"], data=self.unsent(m["stdin_offset"])
                )
                self.reading or self.end_stdin()
            self.reading &= m["stdin"] != "closed"
        elif tag == "output":
            with open(STREAMS[m["stream"]], "wb", closefd=False) as sink:
                sink.write(m["data"])
            self.since = f"offset:{m['offset'] + len(m['data'])}"
            self.say("credit", bytes=len(m["data"]))
        elif tag == "gap":
            self.since = f"offset:{m['end']}"
        elif tag == "stdin_ack":
            self.unacked, self.acked = self.unsent(m["offset"]), max(self.acked, m["offset"])
            self.reading &= not m["eof"]
        elif tag == "ping":
            self.say("pong", id=m["id"], newest=0)
        elif tag == "exit":
            record = m["record"]
            signal, code = record["signal"], record["exit_code"]
            sys.exit(128 + signal if signal else 125 if code is None else code)
        elif tag in ("goodbye", "error") and m["code"] not in ("ended", "stdin_closed"):
            sys.exit(f"{m['code']}: {m['text']}")
