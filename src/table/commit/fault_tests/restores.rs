//! Scripted restores, staged tables where none is, and commits that come second.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::scene::{Files, Scene, files_of};
use crate::table::commit::tests::rows;

/// A table of three versions: 1 and 2; 2 alone; 2 and 3.
async fn three_versions(scene: Scene) -> Scene {
    let files = [("1.parquet", rows(&[1])), ("2.parquet", rows(&[2]))];
    scene.commit("", "", &files).await;
    scene.commit("mode=overwrite", "", &[("2.parquet", rows(&[2]))]).await;
    scene.commit("", "", &[("3.parquet", rows(&[3]))]).await;
    scene
}

async fn three(name: &'static str) -> Scene {
    three_versions(Scene::new(name)).await
}

pub async fn restores() -> Vec<Scene> {
    let older = three("restore an older version").await;
    let older_files = older.version(0).await;
    let log_alone = three("restore by the log alone").await;
    let log = log_alone.log(0).await;
    let same = three("restore what is there").await;
    let same_files = same.version(2).await;
    let mut scenes = vec![
        older.brings(older_files),
        log_alone.brings(log),
        same.brings(same_files),
        foreign().await,
        schema_back(false).await,
        schema_back(true).await,
        digests().await,
        checkpointed(Scene::new("restore from behind a checkpoint")).await,
        tracked().await,
    ];
    scenes.extend(vectors().await);
    scenes
}

/// Another table takes the place of this one.
async fn foreign() -> Scene {
    let other = Scene::new("other");
    let files = [("5.parquet", rows(&[5])), ("1.parquet", rows(&[6]))];
    other.commit("", "delta.enableRowTracking=true", &files).await;
    let scene = three("restore another table").await;
    scene.brings(other.version(0).await)
}

/// Schema and properties were changed since; `protocol`: that too, and it stays.
async fn schema_back(protocol: bool) -> Scene {
    let name = match protocol {
        true => "restore under a newer protocol",
        false => "restore schema and properties",
    };
    let scene = three(name).await;
    let mut metadata = scene.snapshot().await.metadata;
    metadata.configuration.insert("delta.checkpointInterval".into(), "7".into());
    metadata.schema_string =
        metadata.schema_string.replacen("\"name\":\"name\"", "\"name\":\"nom\"", 1);
    let mut actions = vec![json!({ "metaData": metadata })];
    if protocol {
        actions.push(json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"],
            "writerFeatures": ["appendOnly", "deletionVectors", "invariants"]}}));
    }
    scene.foreign(3, &actions).await;
    let files = scene.version(2).await;
    scene.brings(files)
}

async fn digests() -> Scene {
    use sha2::Digest;
    let scene = three("restore with digests").await;
    let files = scene.version(0).await;
    let mut list = String::new();
    for (path, bytes) in &files {
        let digest = sha2::Sha256::digest(bytes);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        list += &format!("{hex}  {path}\n");
    }
    scene.brings(files).files(&[("SHA256SUMS", list.into_bytes())])
}

/// The staged log has a checkpoint, and so has the table's.
async fn checkpointed(scene: Scene) -> Scene {
    let properties = "delta.checkpointInterval=2";
    scene.commit("", properties, &[("1.parquet", rows(&[1]))]).await;
    for id in 2..5 {
        scene.commit("", "", &[(&format!("{id}.parquet"), rows(&[id]))]).await;
    }
    let files = scene.version(2).await;
    scene.brings(files)
}

async fn tracked() -> Scene {
    let scene = Scene::new("restore with row ids");
    let properties = "delta.enableRowTracking=true";
    scene.commit("", properties, &[("1.parquet", rows(&[1])), ("2.parquet", rows(&[2]))]).await;
    scene.commit("mode=overwrite", "", &[("3.parquet", rows(&[3]))]).await;
    let files = scene.version(0).await;
    scene.brings(files)
}

fn golden() -> Option<PathBuf> {
    let golden = std::env::var_os("DELTAFS_GOLDEN").map(PathBuf::from);
    if golden.is_none() {
        assert!(std::env::var_os("CI").is_none(), "DELTAFS_GOLDEN must be set in CI");
        println!("SKIPPED: DELTAFS_GOLDEN isn't set, no deletion vectors were restored");
    }
    golden
}

fn with_vectors(golden: &Path) -> Files {
    files_of(&golden.join("features/table-with-dv-small"))
}

async fn vectors() -> Vec<Scene> {
    let Some(golden) = golden() else { return Vec::new() };
    let files = with_vectors(&golden);
    let is_before =
        |path: &str| !path.ends_with(".bin") && !path.ends_with("00000000000000000001.json");
    let before: Files = files.iter().filter(|(path, _)| is_before(path)).cloned().collect();
    let brings = Scene::new("restore deletion vectors with their files");
    brings.put(&before).await;
    let back = Scene::new("restore what deletion vectors took");
    back.put(&files).await;
    let log = back.version(0).await;
    vec![brings.brings(files), back.brings(log)]
}

/// A staged table where none is. By a rename, which only a disk has.
pub async fn imports() -> Vec<Scene> {
    let source = three("source").await;
    let mut files = source.version(2).await;
    files.push(("1.parquet".into(), rows(&[1])));
    let plain = Scene::on_disk("import").brings(files.clone());
    let orphans = Scene::on_disk("import beside what was published before");
    orphans.put(&vec![("2.parquet".into(), rows(&[2]))]).await;
    let checkpoint = checkpointed(Scene::new("source")).await;
    let checkpoint_files = checkpoint.version(2).await;
    let mut scenes = vec![
        plain,
        orphans.brings(files),
        Scene::on_disk("import with a checkpoint").brings(checkpoint_files),
    ];
    if let Some(golden) = golden() {
        let files = with_vectors(&golden);
        scenes.push(Scene::on_disk("import with deletion vectors").brings(files));
    }
    scenes
}

pub async fn restores_on_disk() -> Vec<Scene> {
    let older = three_versions(Scene::on_disk("restore on disk")).await;
    let files = older.version(0).await;
    let by_reference = three_versions(Scene::on_disk("restore by references on disk")).await;
    let log = by_reference.log(0).await;
    let references = vec![("1.parquet", "1.parquet"), ("2.parquet", "2.parquet")];
    let lost = three_versions(Scene::on_disk("restore what was vacuumed on disk")).await;
    let lost_files = lost.version(0).await;
    let vacuumed = lost.folder.as_ref().map(|folder| folder.path().join("t/1.parquet"));
    std::fs::remove_file(vacuumed.unwrap()).unwrap();
    vec![
        older.brings(files),
        Scene { references, ..by_reference }.brings(log),
        lost.brings(lost_files),
    ]
}

fn add(path: &str) -> Value {
    json!({"add": {"path": path, "partitionValues": {}, "size": rows(&[9]).len(),
        "modificationTime": 1, "dataChange": true, "stats": "{\"numRecords\":1}"}})
}

/// Another writer has the version just before ours is sent.
pub async fn rivals() -> Vec<Scene> {
    let ours = [("4.parquet", rows(&[4]))];
    let nine: Files = vec![("9.parquet".into(), rows(&[9]))];
    let append = three("append behind an append").await;
    let twice = three("append behind two appends").await;
    let overwrite = three("overwrite behind an append").await;
    let restore = three("restore behind an append").await;
    let restored = restore.version(0).await;
    for scene in [&append, &twice, &overwrite, &restore] {
        scene.put(&nine).await;
    }
    let changed = three("append behind other properties").await;
    let mut metadata = changed.snapshot().await.metadata;
    metadata.configuration.insert("team".into(), "finance".into());
    let spent = three("append what a rival has written").await;
    let txn = json!({"txn": {"appId": "app", "version": 7}});
    let disk = three_versions(Scene::on_disk("append behind an append on disk")).await;
    disk.put(&nine).await;
    let create = Scene::new("create behind a create");
    create.put(&nine).await;
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let theirs = json!({ "metaData": three("source").await.snapshot().await.metadata });
    vec![
        append.files(&ours).rival(3, &[add("9.parquet")]),
        twice.files(&ours).rival(3, &[add("9.parquet")]).rival(4, std::slice::from_ref(&txn)),
        overwrite.options("mode=overwrite").files(&ours).rival(3, &[add("9.parquet")]),
        restore.brings(restored).rival(3, &[add("9.parquet")]),
        changed.files(&ours).rival(3, &[json!({ "metaData": metadata })]),
        spent.options("txn=app:7").files(&ours).rival(3, &[txn]),
        disk.files(&ours).rival(3, &[add("9.parquet")]),
        create.files(&ours).rival(0, &[protocol, theirs, add("9.parquet")]),
    ]
}
