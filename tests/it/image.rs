//! Images that other tools made: a web server in several layers, by umoci out of Debian's static busybox.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// What the web server shows.
pub(crate) const PAGE: &str = "hello from three layers";

/// What it shows of its other folder, through a symbolic link.
pub(crate) const SECOND_PAGE: &str = "hello through a link";

/// Makes an OCI layout in `folder/layout`: a first layer with busybox and files that the second removes, replaces and
/// links.
pub(crate) fn httpd(folder: &Path) -> PathBuf {
    let layout = folder.join("layout");
    let image = format!("{}:latest", layout.display());
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    change(folder, &image, |root| {
        fs::create_dir_all(root.join("bin")).unwrap();
        let busybox = "/usr/bin/busybox";
        let copied = fs::copy(busybox, root.join("bin/busybox"));
        copied.unwrap_or_else(|error| panic!("{busybox}: {error}; script/setup installs it"));
        fs::hard_link(root.join("bin/busybox"), root.join("bin/httpd")).unwrap();
        fs::create_dir_all(root.join("www/old")).unwrap();
        fs::write(root.join("www/index.html"), "replaced below").unwrap();
        fs::write(root.join("www/secret.html"), "removed below").unwrap();
        fs::write(root.join("www/old/index.html"), "removed with its folder").unwrap();
    });
    change(folder, &image, |root| {
        fs::write(root.join("www/index.html"), PAGE).unwrap();
        fs::remove_file(root.join("www/secret.html")).unwrap();
        fs::remove_dir_all(root.join("www/old")).unwrap();
        fs::create_dir_all(root.join("srv/pages")).unwrap();
        fs::write(root.join("srv/pages/index.html"), SECOND_PAGE).unwrap();
        symlink("/srv/pages", root.join("www/second")).unwrap();
    });
    change(folder, &image, |root| {
        fs::hard_link(root.join("srv/pages/index.html"), root.join("srv/again.html")).unwrap();
    });
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.exposedports",
        "8080/tcp",
        "--config.entrypoint",
        "/bin/httpd",
        "--config.cmd",
        "-f",
        "--config.cmd",
        "-p",
        "--config.cmd",
        "8080",
        "--config.cmd",
        "-h",
        "--config.cmd",
        "/www",
    ]);
    layout
}

/// Adds one layer with what `change` does to the root file system.
fn change(folder: &Path, image: &str, change: impl FnOnce(&Path)) {
    let bundle = folder.join("bundle");
    let bundle_text = bundle.to_str().unwrap();
    umoci(&["unpack", "--image", image, bundle_text]);
    change(&bundle.join("rootfs"));
    umoci(&["repack", "--image", image, bundle_text]);
    fs::remove_dir_all(&bundle).unwrap();
}

fn umoci(arguments: &[&str]) {
    run("umoci", arguments);
}

pub(crate) fn skopeo(arguments: &[&str]) {
    run("skopeo", arguments);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; script/setup installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}
