"""delta_kernel and deltalake as readers of tables; neither knows deltafs.

The kernel is the program `kernel_rows` (examples/kernel_rows.rs), asked by lines.
"""

import json
import os
import subprocess

import pyarrow as pa


class Refused(Exception):
    """An engine does not read a table; its text is the engine's own."""


class Kernel:
    """One running `kernel_rows`, for any number of tables."""

    def __init__(self, scratch):
        self.file = os.path.join(scratch, "kernel_rows.arrow")
        program = os.environ["DELTAFS_KERNEL_ROWS"]
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, path, version=None):
        """A version's rows as an arrow table; `Refused` where the kernel has an error."""
        wanted = "-" if version is None else version
        self.process.stdin.write(f"{path}\t{wanted}\t{self.file}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"kernel_rows ended on {path}: {self.process.wait()}")
        answer = json.loads(answer)
        if "error" in answer:
            raise Refused(answer["error"])
        with pa.OSFile(self.file) as file:
            return pa.ipc.open_stream(file).read_all()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def deltalake(path, version=None):
    """A version's rows by deltalake as an arrow table; `Refused` where it has an error."""
    from deltalake import DeltaTable, QueryBuilder
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(path, version=version)
        # QueryBuilder, because to_pyarrow_table refuses deletion vectors and column mapping.
        return pa.table(QueryBuilder().register("t", table).execute("select * from t"))
    except DeltaError as error:
        raise Refused(str(error)) from error
