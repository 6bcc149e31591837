"""A table's history as its commits say it: for each version what came, what went, what is live.

Written apart from deltafs, as plainly as the protocol's text, for tables whose commits are all
there. `follow` reads on where it ended.
"""

import json
import os
import urllib.parse


class Version:
    """One commit, and the files that are live after it."""

    def __init__(self, number, actions, before):
        self.number = number
        self.adds, self.removes, self.txns, self.info = {}, set(), {}, {}
        for action in actions:
            for kind, value in action.items():
                if kind == "add":
                    self.once(self.adds, value)
                elif kind == "remove":
                    self.once(self.removes, value)
                elif kind == "txn":
                    self.txns[value["appId"]] = value["version"]
                elif kind == "commitInfo":
                    self.info = value
        self.before = before
        self.live = (before - self.removes) | set(self.adds)

    def once(self, files, action):
        """Notes a file; the protocol has each path once in a commit for each kind."""
        path = urllib.parse.unquote(action["path"])
        if path in files:
            raise ValueError(f"version {self.number} names {path} twice")
        if isinstance(files, dict):
            files[path] = action
        else:
            files.add(path)

    @property
    def operation(self):
        return self.info.get("operation")


class History:
    """The versions of a table from 0 on."""

    def __init__(self, table):
        self.table, self.versions = table, []

    def follow(self):
        """Reads the commits that came since; returns them."""
        new = []
        while True:
            number = len(self.versions)
            path = os.path.join(self.table, "_delta_log", f"{number:020}.json")
            try:
                with open(path, encoding="utf-8") as log:
                    actions = [json.loads(line) for line in log if line.strip()]
            except FileNotFoundError:
                return new
            before = self.versions[-1].live if self.versions else frozenset()
            version = Version(number, actions, before)
            self.versions.append(version)
            new.append(version)

    @property
    def newest(self):
        return self.versions[-1]
