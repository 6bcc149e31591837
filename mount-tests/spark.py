"""Spark with Delta as a reader and writer of tables, in one session for a whole run.

Started for many small tables on two cores: nothing is compiled at run time, no web pages, plain
garbage collection. What a test needs of Spark is here; what it proves with it is the caller's.
"""

import glob
import os

import kernel

# Spark reads a variant as its JSON, whichever the bytes.
VARIANT = "variant"


def session(scratch):
    """Starts Spark; DELTAFS_SPARK_JARS is the folder of Delta's own jars."""
    from pyspark.sql import SparkSession

    # The name of the machine may lead to an address that nobody answers at.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    jars = sorted(glob.glob(os.path.join(os.environ["DELTAFS_SPARK_JARS"], "*.jar")))
    options = {
        "spark.jars": ",".join(jars),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.driver.memory": "2g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.local.dir": os.path.join(scratch, "spark"),
        "spark.sql.warehouse.dir": os.path.join(scratch, "spark", "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.checkpoint.exceptionThrowing.enabled": "true",
    }
    builder = SparkSession.builder.master("local[2]").appName("deltafs")
    for name, value in options.items():
        builder = builder.config(name, value)
    running = builder.getOrCreate()
    running.sparkContext.setLogLevel("OFF")
    return running


class Spark:
    """A session's tables, by their paths."""

    def __init__(self, scratch):
        self.session = session(scratch)

    def attempt(self, action):
        """An action's value; `Refused` where Spark has an error."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            return action()
        except (PySparkException, Py4JError) as error:
            raise kernel.Refused(" / ".join(causes(error))) from error

    def read(self, path, version=None):
        """A version's rows as an arrow table, variants as text."""
        return self.attempt(lambda: self.frame(path, version).toArrow())

    def frame(self, path, version):
        reader = self.session.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = reader.load(path)
        names = variants(frame.schema)
        for name in names:
            frame = frame.withColumn(name, as_json(name))
        return frame

    def sql(self, statement):
        """Runs a statement to its end; the rows of its answer."""
        return self.attempt(lambda: self.session.sql(statement).collect())

    def verifying(self, is_on):
        """Whether the next commits check the newest `.crc`, and their own, against the state."""
        name = "spark.databricks.delta.incremental.commit.verify"
        self.session.conf.set(name, str(is_on).lower())

    def close(self):
        self.session.stop()


def causes(error):
    """The first lines of an error and of what caused it."""
    java = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if java is None:
        yield str(error).strip().splitlines()[0]
    while java is not None:
        yield str(java.toString()).splitlines()[0]
        java = java.getCause()


def variants(schema):
    return [field.name for field in schema.fields if VARIANT in field.dataType.simpleString()]


def as_json(name):
    from pyspark.sql import functions

    column = functions.col(quoted(name))
    return functions.to_json(functions.struct(column.alias("value")))


def quoted(name):
    return "`%s`" % name.replace("`", "``")
