"""SQLite in memory behind a Unix socket, a line asked and a line answered: SET n value, GET n, SCAN cursor rows seed, CHECK, PING."""
import socket
import sqlite3
import sys
import zlib

database = sqlite3.connect(":memory:", isolation_level=None)
database.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, name TEXT NOT NULL, place INTEGER NOT NULL, value TEXT NOT NULL)")
database.execute("CREATE UNIQUE INDEX record_by_name ON record (name)")
database.execute("CREATE INDEX record_by_place ON record (place)")


def scattered(n):
    """A place that has nothing to do with where the row lies."""
    return n * 0x9E3779B1 % 0x100000000


def scan(cursor, rows, seed):
    """The next rows by place; which cursor comes next stands in front. The seed says where the first scan begins."""
    at = scattered(seed) if cursor == 0 else cursor
    found = database.execute("SELECT place, length(value) FROM record WHERE place >= ? ORDER BY place LIMIT ?", (at, rows)).fetchall()
    return f"{found[-1][0] + 1 if len(found) == rows else 1} {sum(length for _, length in found)}"


def answer(line):
    words = line.split(" ")
    if words[0] == "GET":
        found = database.execute("SELECT value FROM record WHERE name = ?", (f"name{int(words[1]):09}",)).fetchone()
        return "missing" if found is None else found[0]
    if words[0] == "SET":
        n = int(words[1])
        database.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", (n, f"name{n:09}", scattered(n), words[2]))
        return "ok"
    if words[0] == "SCAN":
        return scan(int(words[1].split()[0]), int(words[2]), int(words[3]))
    if words[0] == "CHECK":
        total = 0
        for row in database.execute("SELECT id, value FROM record ORDER BY id"):
            total = zlib.crc32(f"{row[0]}={row[1]};".encode(), total)
        whole = database.execute("PRAGMA integrity_check").fetchone()[0]
        return f"{database.execute('SELECT count(*) FROM record').fetchone()[0]}:{total:08x}:{whole}"
    return "pong" if words[0] == "PING" else "error unknown request"


def serve(client):
    pending = b""
    while data := client.recv(65536):
        lines = (pending + data).split(b"\n")
        pending = lines.pop()
        if lines:
            client.sendall("".join(answer(line.decode()) + "\n" for line in lines).encode())


def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        client, _ = listener.accept()
        with client:
            try:
                serve(client)
            except ConnectionError:
                pass


main()
