//! The rows of Delta tables as delta_kernel reads them: the oracle that mount tests ask.
//!
//! Each line of standard input is a request of three fields, parted by tabs: a table's folder, a
//! version (`-` for the newest) and a file to write. The file becomes an Arrow IPC stream of the
//! version's rows; the answer is one line of JSON on standard output, `{"version": …, "rows": …}`
//! or `{"error": …}`. Nothing here knows deltafs.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use delta_kernel::Snapshot;
use delta_kernel::arrow::array::RecordBatch;
use delta_kernel::arrow::datatypes::Schema;
use delta_kernel::arrow::ipc::writer::StreamWriter;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::storage::store_from_url;
use serde_json::json;
use tokio::runtime::Handle;
use url::Url;

type Failure = Box<dyn std::error::Error>;

fn answer(request: &str, runtime: &Handle) -> Result<serde_json::Value, Failure> {
    let mut fields = request.split('\t');
    let (Some(table), Some(version), Some(target)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("a request is TABLE, VERSION and FILE, parted by tabs".into());
    };
    let url = Url::from_directory_path(table).map_err(|()| "the table's path isn't absolute")?;
    let executor = Arc::new(TokioMultiThreadExecutor::new(runtime.clone()));
    let builder = DefaultEngineBuilder::new(store_from_url(&url)?);
    let engine = Arc::new(builder.with_task_executor(executor).build());
    let mut snapshot = Snapshot::builder_for(url.as_str());
    if version != "-" {
        snapshot = snapshot.at_version(version.parse()?);
    }
    let snapshot = snapshot.build(engine.as_ref())?;
    let version = snapshot.version();
    let schema: Schema = snapshot.schema().as_ref().try_into_arrow()?;
    let mut batches: Vec<RecordBatch> = Vec::new();
    for data in snapshot.scan_builder().build()?.execute(engine)? {
        batches.push((*ArrowEngineData::try_from_engine_data(data?)?).into());
    }
    // The batches' own schema: it may say more of a column than the table does.
    let schema = batches.first().map_or(schema, |batch| batch.schema().as_ref().clone());
    let rows = write(Path::new(target), &schema, &batches)?;
    Ok(json!({ "version": version, "rows": rows }))
}

fn write(target: &Path, schema: &Schema, batches: &[RecordBatch]) -> Result<usize, Failure> {
    let mut writer = StreamWriter::try_new(BufWriter::new(File::create(target)?), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_inner()?.flush()?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}

fn main() -> Result<(), Failure> {
    // With one thread the kernel waits for itself.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut output = std::io::stdout().lock();
    for request in std::io::stdin().lock().lines() {
        let answer = answer(&request?, runtime.handle())
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}
