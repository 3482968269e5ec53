//! `roadstead image`, beside what the libraries say of the same image.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use roadstead_devnet::service;
use roadstead_journal::StateFolder;
use roadstead_publisher::{Keys, seal};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Desk, failed, succeeded};
use crate::command::Roadstead;

/// An image with a variable that nobody shall read.
fn image(folder: &Path) -> PathBuf {
    let layout = folder.join("image");
    service::pack(&layout).unwrap();
    let mut index = document(&layout.join("index.json"));
    let mut manifest = blob(&layout, &index["manifests"][0]);
    let mut config = blob(&layout, &manifest["config"]);
    config["config"]["Env"] = json!(["TOKEN=hunter2", "PLAIN="]);
    put(&layout, &mut manifest["config"], &config);
    put(&layout, &mut index["manifests"][0], &manifest);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    layout
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn path_of(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

fn blob(layout: &Path, descriptor: &Value) -> Value {
    document(&path_of(layout, descriptor))
}

/// Puts a document into the layout, and its digest into what names it.
fn put(layout: &Path, descriptor: &mut Value, content: &Value) {
    let text = content.to_string();
    let digits: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    descriptor["digest"] = format!("sha256:{digits}").into();
    descriptor["size"] = text.len().into();
    fs::write(path_of(layout, descriptor), text).unwrap();
}

fn run(roadstead: &Roadstead, arguments: &[&str]) -> std::process::Output {
    roadstead.run(&[&["image"], arguments, &["--json"]].concat())
}

#[test]
fn an_image_is_shown_without_its_secrets_as_a_folder_and_as_an_archive() {
    let (roadstead, folder) = (Roadstead::new(), tempfile::tempdir().unwrap());
    let layout = image(folder.path());
    let archive = folder.path().join("image.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all(".", &layout).unwrap();
    builder.finish().unwrap();

    let index = document(&layout.join("index.json"));
    let manifest = blob(&layout, &index["manifests"][0]);
    let shown = succeeded(&run(&roadstead, &["inspect", layout.to_str().unwrap()]));
    assert_eq!(shown["pinned"], index["manifests"][0]["digest"]);
    assert_eq!(shown["image"], manifest["config"]["digest"]);
    assert_eq!(shown["platform"]["os"], "linux");
    let layer = &manifest["layers"][0];
    let [found] = &shown["layers"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!((&found["digest"], &found["size"]), (&layer["digest"], &layer["size"]));
    assert_eq!(shown["exposed_ports"], json!(["8080/tcp"]));
    assert_eq!(shown["environment"], json!(["TOKEN", "PLAIN"]));
    let archived = succeeded(&run(&roadstead, &["inspect", archive.to_str().unwrap()]));
    assert_eq!(archived, shown);

    let text = roadstead.run(&["image", "inspect", layout.to_str().unwrap()]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("TOKEN") && text.contains("8080/tcp"), "{text}");
    assert!(!(text + &shown.to_string()).contains("hunter2"));
    assert_eq!(roadstead.files(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_sealed_as_the_library_does_it_and_kept() {
    let desk = Desk::new().await;
    let folder = tempfile::tempdir().unwrap();
    let layout = image(folder.path());
    let sealed = succeeded(&run(&desk.roadstead, &["seal", layout.to_str().unwrap()]));
    let again = succeeded(&run(&desk.roadstead, &["seal", layout.to_str().unwrap()]));
    assert_eq!((&again["root"], &again["new_blocks"]), (&sealed["root"], &json!(0)));

    let publisher = StateFolder::open(desk.roadstead.home().join("publisher")).unwrap();
    let keys = Keys::load_or_create(&publisher).unwrap();
    drop(publisher);
    let ports = desk.market.publisher().await;
    let workload = service::workload(&layout);
    let expected = seal(&ports, &keys, workload, folder.path(), |_| {}).await.unwrap();
    assert_eq!(sealed, serde_json::to_value(&expected.images[0]).unwrap());

    let root = sealed["root"].as_str().unwrap();
    let found = succeeded(&run(&desk.roadstead, &["inspect", root]));
    assert_eq!(found["root"], root);
    assert_eq!((&found["missing"], &found["pinned"]), (&json!(0), &json!(true)));
    assert_eq!(found["blocks"], sealed["new_blocks"]);
    let names: Vec<_> =
        found["parts"].as_array().unwrap().iter().map(|part| &part["name"]).collect();
    assert_eq!(names, ["index", "layer-0000"]);
}

#[test]
fn what_cannot_be_used_is_one_error_that_says_why() {
    let (roadstead, folder) = (Roadstead::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (missing, text) = (path("missing"), path("text"));
    fs::write(&text, "no image at all").unwrap();
    for command in ["seal", "inspect"] {
        failed(&run(&roadstead, &[command, &missing]), "missing`");
        failed(&run(&roadstead, &[command, &text]), "is no OCI image");
        let broken = broken(&folder, command, |layout, index| {
            fs::write(path_of(layout, &index["manifests"][0]), "{}").unwrap();
        });
        failed(&run(&roadstead, &[command, &broken]), "than the image says");
    }
    assert_eq!(roadstead.files(), Vec::<PathBuf>::new());

    // A layer is looked at where it is sealed.
    let damaged = broken(&folder, "layer", |layout, index| {
        let manifest = blob(layout, &index["manifests"][0]);
        let layer = path_of(layout, &manifest["layers"][0]);
        let mut bytes = fs::read(&layer).unwrap();
        bytes[700] ^= 1;
        fs::write(layer, bytes).unwrap();
    });
    succeeded(&run(&roadstead, &["inspect", &damaged]));
    failed(&run(&roadstead, &["seal", &damaged]), "cannot be sealed");

    let unknown = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    let error = failed(&run(&roadstead, &["inspect", unknown]), "nothing of bafkreih");
    assert!(error["hint"].as_str().unwrap().contains("image seal"), "{error}");

    let _lock = StateFolder::open(roadstead.home().join("publisher")).unwrap();
    let whole = image(folder.path());
    failed(&run(&roadstead, &["seal", whole.to_str().unwrap()]), "in use by another process");
}

/// An image that something is done to.
fn broken(folder: &TempDir, name: &str, harm: impl FnOnce(&Path, &Value)) -> String {
    let place = folder.path().join(name);
    fs::create_dir(&place).unwrap();
    let layout = image(&place);
    harm(&layout, &document(&layout.join("index.json")));
    layout.to_str().unwrap().to_owned()
}
