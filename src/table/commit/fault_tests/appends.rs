//! Scripted appends, overwrites, new tables and properties.

use serde_json::json;

use super::scene::Scene;
use super::{column_1, days, no_rows, numbers, wide, with_mail};
use crate::table::commit::tests::rows;

/// A table of the files 1 and 2.
async fn two_files(scene: Scene) -> Scene {
    let files = [("1.parquet", rows(&[1])), ("2.parquet", rows(&[2]))];
    scene.commit("", "", &files).await;
    scene
}

async fn two(name: &'static str) -> Scene {
    two_files(Scene::new(name)).await
}

async fn two_on_disk(name: &'static str) -> Scene {
    two_files(Scene::on_disk(name)).await
}

/// A table with properties of the file 1.
async fn with(name: &'static str, properties: &str) -> Scene {
    let scene = Scene::new(name);
    scene.commit("", properties, &[("1.parquet", rows(&[1]))]).await;
    scene
}

async fn partitioned(scene: Scene) -> Scene {
    let files = [("p=a/1.parquet", rows(&[1])), ("p=b/2.parquet", rows(&[2]))];
    scene.commit("", "", &files).await;
    scene
}

/// The files 1 and 2, of which the second version has but 2.
async fn one_removed(scene: Scene) -> Scene {
    let scene = two_files(scene).await;
    scene.commit("mode=overwrite", "", &[("2.parquet", rows(&[2]))]).await;
    scene
}

pub async fn appends() -> Vec<Scene> {
    let many: Vec<(String, Vec<u8>)> =
        (10..43).map(|id| (format!("d/{id}.parquet"), rows(&[id]))).collect();
    let three = [rows(&[3]), rows(&[4]), rows(&[5])];
    let [three_, four, five] = three.clone();
    vec![
        two("append one").await.files(&[("3.parquet", rows(&[3]))]),
        two("append several").await.files(&[
            ("3.parquet", three_),
            ("d/4.parquet", four),
            ("d/e/5.parquet", five),
        ]),
        partitioned(Scene::new("append to partitions"))
            .await
            .files(&[("p=a/3.parquet", rows(&[3])), ("p=c/4.parquet", rows(&[4]))]),
        two("append with txn").await.options("txn=app:7").files(&[("3.parquet", rows(&[3]))]),
        two("append more than are looked at").await.brings(many),
        two("append a column").await.options("merge_schema=true").files(&[("3", with_mail(3))]),
        widened().await,
        two("append with properties")
            .await
            .properties("delta.appendOnly=true\nteam=finance\n")
            .files(&[("3.parquet", rows(&[3]))]),
        two("append under a name that is taken").await.files(&[("1.parquet", rows(&[3]))]),
        two("append what is there and more")
            .await
            .files(&[("1.parquet", rows(&[1])), ("3.parquet", rows(&[3]))]),
        two("append beside what is left out").await.files(&[
            ("3.parquet", rows(&[3])),
            ("_SUCCESS", vec![]),
            (".3.parquet.crc", b"crc".to_vec()),
            (".DS_Store", b"store".to_vec()),
        ]),
        digests().await,
        with("append with row ids", "delta.enableRowTracking=true")
            .await
            .files(&[("3.parquet", rows(&[3, 4])), ("5.parquet", rows(&[5]))]),
        with("append with in-commit times", "delta.enableInCommitTimestamps=true")
            .await
            .files(&[("3.parquet", rows(&[3]))]),
        mapped().await,
        with("append where a checkpoint is due", "delta.checkpointInterval=1")
            .await
            .files(&[("3.parquet", rows(&[3]))]),
        with(
            "append where a V2 checkpoint is due",
            "delta.checkpointInterval=1\ndelta.checkpointPolicy=v2",
        )
        .await
        .files(&[("3.parquet", rows(&[3]))]),
        two("append what a sink leaves").await.files(&[
            ("part-0", rows(&[3])),
            ("part-1", no_rows()),
            ("_SUCCESS", vec![]),
        ]),
        two("append nothing new").await.files(&[("2.parquet", rows(&[2]))]),
    ]
}

async fn widened() -> Scene {
    let scene = Scene::new("append a wider type");
    let file = [("1.parquet", numbers(1))];
    scene.commit("", "delta.enableTypeWidening=true", &file).await;
    scene.options("merge_schema=true").files(&[("2.parquet", wide(1 << 40)), ("3", numbers(3))])
}

async fn digests() -> Scene {
    use sha2::Digest;
    let hex: String =
        sha2::Sha256::digest(rows(&[3])).iter().map(|byte| format!("{byte:02x}")).collect();
    two("append with digests").await.files(&[
        ("3.parquet", rows(&[3])),
        ("SHA256SUMS", format!("{hex}  3.parquet\n").into_bytes()),
    ])
}

/// A table whose columns have other names in its files.
async fn mapped() -> Scene {
    let scene = Scene::new("append to mapped columns");
    let field = |name: &str, data_type: &str, id: i64| {
        json!({ "name": name, "type": data_type, "nullable": true, "metadata": {
            "delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}") } })
    };
    let fields = [field("id", "long", 1), field("name", "string", 2)];
    let schema = json!({ "type": "struct", "fields": fields }).to_string();
    let actions = [
        json!({ "protocol": { "minReaderVersion": 2, "minWriterVersion": 5 } }),
        json!({ "metaData": { "id": "t", "format": { "provider": "parquet", "options": {} },
            "schemaString": schema, "partitionColumns": [], "configuration": {
                "delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2" } } }),
    ];
    scene.foreign(0, &actions).await;
    scene.files(&[("1.parquet", column_1(1)), ("2.parquet", column_1(2))])
}

pub async fn overwrites() -> Vec<Scene> {
    let overwrite = "mode=overwrite";
    let new = [("3.parquet", rows(&[3])), ("4.parquet", rows(&[4]))];
    vec![
        two("overwrite with new files").await.options(overwrite).files(&new),
        two("overwrite with some that are there")
            .await
            .options(overwrite)
            .files(&[("2.parquet", rows(&[2])), ("3.parquet", rows(&[3]))]),
        two("overwrite with fewer").await.options(overwrite).files(&[("1.parquet", rows(&[1]))]),
        one_removed(Scene::new("overwrite with what was there once"))
            .await
            .options(overwrite)
            .files(&[("1.parquet", rows(&[1]))]),
        partitioned(Scene::new("overwrite partitions"))
            .await
            .options(overwrite)
            .files(&[("p=b/2.parquet", rows(&[2])), ("p=c/3.parquet", rows(&[3]))]),
        with("overwrite with row ids", "delta.enableRowTracking=true")
            .await
            .options("mode=overwrite\ntxn=app:3")
            .files(&new),
        two("overwrite with another schema")
            .await
            .options("mode=overwrite\nmerge_schema=true")
            .files(&[("3.parquet", with_mail(3))]),
        partitioned(Scene::new("replace partitions"))
            .await
            .options("mode=replace_partitions")
            .files(&[("p=b/3.parquet", rows(&[3])), ("p=c/4.parquet", rows(&[4]))]),
        partitioned(Scene::new("replace a partition by what is there"))
            .await
            .options("mode=replace_partitions\ntxn=app:1")
            .files(&[("p=b/2.parquet", rows(&[2])), ("p=b/3.parquet", rows(&[3]))]),
    ]
}

pub async fn creates() -> Vec<Scene> {
    let files = [("1.parquet", rows(&[1])), ("d/2.parquet", rows(&[2]))];
    vec![
        Scene::new("create").files(&files),
        Scene::new("create with partitions")
            .files(&[("day=2026-11-01/1", days(1)), ("day=2026-11-02/2", days(2))]),
        Scene::new("create with properties")
            .properties("delta.enableRowTracking=true\ndelta.checkpointInterval=3")
            .options("txn=app:1")
            .files(&files),
        Scene::new("create with mapped columns")
            .properties("delta.columnMapping.mode=name")
            .files(&files),
        Scene::new("create with in-commit times")
            .properties("delta.enableInCommitTimestamps=true")
            .files(&files),
    ]
}

pub async fn properties() -> Vec<Scene> {
    vec![
        two("properties alone").await.properties("delta.appendOnly=true\nteam=finance"),
        with("properties taken away", "team=finance\ndelta.appendOnly=true")
            .await
            .options("txn=app:2")
            .properties("-delta.appendOnly\n-team"),
        two("properties that give row ids").await.properties("delta.enableRowTracking=true"),
        two("properties that map columns").await.properties("delta.columnMapping.mode=name"),
        two("properties that begin in-commit times")
            .await
            .properties("delta.enableInCommitTimestamps=true"),
        with("properties that are there", "team=finance").await.properties("team=finance"),
    ]
}

pub async fn on_disk() -> Vec<Scene> {
    let file = [("3.parquet", rows(&[3]))];
    let references = vec![("1.parquet", "1.parquet"), ("copy.parquet", "2.parquet")];
    let referring = one_removed(Scene::on_disk("append references on disk")).await;
    vec![
        two_on_disk("append on disk").await.options("txn=app:1").files(&file),
        partitioned(Scene::on_disk("append to partitions on disk"))
            .await
            .files(&[("p=a/3.parquet", rows(&[3])), ("p=c/4.parquet", rows(&[4]))]),
        one_removed(Scene::on_disk("overwrite on disk"))
            .await
            .options("mode=overwrite")
            .files(&[("1.parquet", rows(&[1])), ("3.parquet", rows(&[3]))]),
        Scene { references, ..referring },
        two_on_disk("append under a name that is taken on disk")
            .await
            .files(&[("1.parquet", rows(&[3])), ("4.parquet", rows(&[4]))]),
        two_on_disk("properties on disk").await.properties("delta.appendOnly=true"),
        Scene::on_disk("create on disk").files(&file),
        Scene::on_disk("create with a checkpoint due on disk")
            .properties("delta.checkpointInterval=1")
            .files(&[("p=1/1.parquet", rows(&[1]))]),
        {
            let scene = two_on_disk("append where a checkpoint is due on disk").await;
            scene.commit("", "delta.checkpointInterval=1", &[]).await;
            scene.files(&file)
        },
    ]
}
