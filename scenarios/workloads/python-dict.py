"""A dict of lists behind a Unix socket, a line asked and a line answered: SET n value, GET n, CHECK, PING."""
import selectors
import socket
import sys
import zlib

table = {}


def answer(line):
    words = line.split(" ")
    if words[0] == "GET":
        entry = table.get(int(words[1]))
        return "missing" if entry is None else "".join(entry["parts"])
    if words[0] == "SET":
        value = words[2]
        table[int(words[1])] = {"parts": [value[i:i + 8] for i in range(0, len(value), 8)], "length": len(value)}
        return "ok"
    if words[0] == "CHECK":
        total = 0
        for key in sorted(table):
            total = zlib.crc32(f"{key}={''.join(table[key]['parts'])};".encode(), total)
        return f"{len(table)}:{total:08x}"
    return "pong" if words[0] == "PING" else "error unknown request"


class Connection:
    def __init__(self, client):
        self.client, self.pending = client, b""

    def serve(self):
        data = self.client.recv(65536)
        lines = (self.pending + data).split(b"\n")
        self.pending = lines.pop()
        if lines:
            self.client.sendall("".join(answer(line.decode()) + "\n" for line in lines).encode())
        return bool(data)


def main():
    selector = selectors.DefaultSelector()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                selector.register(client, selectors.EVENT_READ, Connection(client))
                continue
            try:
                alive = key.data.serve()
            except ConnectionError:
                alive = False
            if not alive:
                selector.unregister(key.fileobj)
                key.fileobj.close()


main()
