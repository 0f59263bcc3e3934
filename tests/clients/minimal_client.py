"""``minimal_client.py STATE_DIRECTORY``: attach to a container, written from protocol.md alone."""

import os
import secrets
import select
import socket
import sys

import msgpack

CREDIT = 1 << 20
FDS = {"stdout": 1, "stderr": 2}


class Client:
    """Shows output from the start, sends our stdin, ends with the container's code."""

    def __init__(self, directory):
        os.chdir(directory)  # a relative path always fits into sockaddr_un
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.connect("attach.sock")
        self.buffer, self.sent, self.acked, self.window, self.open = b"", 0, 0, 0, False

    def say(self, tag, **fields):
        payload = msgpack.packb({"type": tag, **fields})
        self.peer.sendall(len(payload).to_bytes(4, "big") + payload)

    def hear(self):
        data = self.peer.recv(1 << 18)
        if not data:
            sys.exit("the server is gone")
        self.buffer += data
        while len(self.buffer) >= 4 + (size := int.from_bytes(self.buffer[:4], "big")):
            message, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
            self.obey(**msgpack.unpackb(message))

    def obey(self, **message):
        tag = message["type"]
        if tag == "welcome":
            self.window, self.open = message["stdin_window"], message["stdin"] != "closed"
        elif tag == "output":
            rest = message["data"]
            while rest:
                rest = rest[os.write(FDS[message["stream"]], rest) :]
            self.say("credit", bytes=len(message["data"]))
        elif tag == "gap":
            print(f"{message['end'] - message['start']} bytes are gone", file=sys.stderr)
        elif tag == "stdin_ack":
            self.acked = message["offset"]
            self.open = self.open and not message["eof"]
        elif tag == "ping":
            self.say("pong", id=message["id"], newest=0)
        elif tag == "exit":
            code, signal = message["record"]["exit_code"], message["record"]["signal"]
            sys.exit(128 + signal if signal else 125 if code is None else code)
        elif tag == "goodbye":
            sys.exit(f"{message['code']}: {message['text']}")

    def feed(self):
        data = os.read(0, min(1 << 16, self.window - (self.sent - self.acked)))
        if data:
            self.say("stdin", offset=self.sent, data=data)
            self.sent += len(data)
        else:
            self.say("stdin_eof", offset=self.sent)
            self.open = False

    def run(self):
        self.say("hello", version=1, since="start", credit=CREDIT, key=secrets.token_bytes(16))
        while True:
            may_send = self.open and self.sent - self.acked < self.window
            ready, _, _ = select.select([self.peer, *([0] if may_send else [])], [], [])
            self.hear() if self.peer in ready else self.feed()


if __name__ == "__main__":
    Client(sys.argv[1]).run()
