#!/usr/bin/env python3
"""Files as a dispatched collection: a directory and its copy in a Tidewire, followed by anyone.

    files.py DIRECTORY --url ipc:///run/tidewire [--collection files]

Each file below DIRECTORY is a record {"_id": path, "name", "folder", "size", "modified"}; adding,
changing and removing files become puts and removes. A restart compares the directory with what is
stored, so nothing that happened meanwhile is missed. Linux tells of changes at once (inotify);
elsewhere, and for what inotify cannot tell, the directory is looked through each INTERVAL seconds.
Ends with Ctrl-C or SIGTERM.
"""

import argparse
import ctypes
import datetime
import os
import select
import signal
import sys

from tidewire import Client, TidewireError, Unavailable

SETTLE_S = 0.05  # a file being written changes often: what changes together is told together
PAGE = 10000  # records of one find
BATCH = 500  # operations of one batch
# Of inotify: modify, attributes, close after writing, moved from and to, create, delete.
EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200


class Watch:
    """Wakes when something changes below a directory, or after an interval."""

    def __init__(self, directory, interval):
        self.interval, self.fd = interval, -1
        self.stop_fd, self.stop_write = os.pipe()
        try:
            self.libc = ctypes.CDLL(None, use_errno=True)
            self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):  # no Linux
            pass
        self.add(directory)

    def add(self, directory):
        """Watches one directory; to watch it again changes nothing."""
        if self.fd >= 0:
            self.libc.inotify_add_watch(self.fd, os.fsencode(directory), EVENTS)

    def stop(self, *_):
        os.write(self.stop_write, b"x")

    def wait(self, seconds=None):
        """False: it is to end."""
        poll = select.poll()
        for fd in (self.stop_fd, self.fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll((self.interval if seconds is None else seconds) * 1000)]
        if self.fd in ready:
            os.read(self.fd, 65536)  # which file it was, the scan finds out
        return self.stop_fd not in ready


def scan(directory, watch):
    """{id: what is to be stored about the file}."""
    found, folders = {}, [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(directory, folder)))
        except FileNotFoundError:
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    watch.add(entry.path)
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    doc = about(path, entry.stat(follow_symlinks=False))
                    found[doc["_id"]] = doc
            except FileNotFoundError:  # it is gone already
                continue
    return found


def about(path, info):
    name = path.encode(errors="surrogateescape").decode(errors="replace")
    milliseconds = info.st_mtime_ns // 1000000
    return {
        "_id": name,
        "name": os.path.basename(name),
        "folder": os.path.dirname(name),
        "size": info.st_size,
        "modified": datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        + datetime.timedelta(milliseconds=milliseconds),
    }


def stored(client, collection):
    """What the collection holds, page by page."""
    known, query = {}, {}
    while True:
        page = client.find(collection, query, sort={"_id": 1}, limit=PAGE)
        known.update((doc["_id"], doc) for doc in page)
        if len(page) < PAGE:
            return known
        query = {"_id": {"$gt": page[-1]["_id"]}}


def differences(known, found):
    """The operations that make one of the other."""
    ops = []
    for path, doc in found.items():
        old = known.get(path)
        if old is None or any(old.get(name) != value for name, value in doc.items()):
            ops.append({"op": "put", "doc": doc})
    ops += [{"op": "remove", "id": path} for path in known if path not in found]
    return ops


def follow(client, directory, collection, watch):
    known = stored(client, collection)
    while True:
        found = scan(directory, watch)
        ops = differences(known, found)
        try:
            for first in range(0, len(ops), BATCH):
                client.batch(collection, ops[first : first + BATCH])
        except Unavailable as error:  # told once more with the next look
            print(error, file=sys.stderr, flush=True)
        else:
            known = found
            if ops:
                print(f"{len(ops)} changes, {len(found)} files", flush=True)
        if not watch.wait() or not watch.wait(SETTLE_S):
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory")
    parser.add_argument("--url", required=True)
    parser.add_argument("--collection", default="files")
    parser.add_argument("--interval", type=float, default=5.0, metavar="SECONDS")
    args = parser.parse_args()
    if not os.path.isdir(args.directory):
        parser.error(f"{args.directory} is no directory")
    watch = Watch(args.directory, args.interval)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, watch.stop)
    try:
        with Client(args.url) as client:
            follow(client, args.directory, args.collection, watch)
    except TidewireError as error:
        sys.exit(f"files: {error}")


if __name__ == "__main__":
    main()
