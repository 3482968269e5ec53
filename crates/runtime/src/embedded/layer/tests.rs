//! Hostile and ordinary layers, laid out as root.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// A tar that is written entry by entry, without the checks of the library that writes it.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "layers are laid out as root: run as root");
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, name: &str, kind: EntryType, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1_000);
        header.set_gid(2_000);
        header.set_mtime(1_234_567);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, EntryType::Regular, "", 0o644, content.as_bytes())
    }

    fn folder(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, "", 0o755, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, 0o777, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, target, 0o644, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn lay_out(self) -> TempDir {
        self.on(&[]).0
    }

    fn on(self, below: &[&TempDir]) -> (TempDir, Laid) {
        let root = tempfile::tempdir().unwrap();
        let below: Vec<_> = below.iter().map(|layer| layer.path().to_owned()).collect();
        let laid = lay(&self.bytes(), &root, &below).unwrap();
        (root, laid)
    }

    fn refusal(self) -> String {
        let root = tempfile::tempdir().unwrap();
        match lay(&self.bytes(), &root, &[]) {
            Err(LayerError::Bad { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn lay(layer: &[u8], root: &TempDir, below: &[PathBuf]) -> Result<Laid, LayerError> {
    lay_out(layer, layer.len() as u64, root.path(), below)
}

fn is_gone(root: &TempDir, name: &str) -> bool {
    fs::symlink_metadata(root.path().join(name))
        .is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

fn opaque(root: &TempDir, name: &str) -> bool {
    is_opaque(File::open(root.path().join(name)).unwrap())
}

#[test]
fn files_keep_owner_mode_and_time_but_not_their_set_user_id() {
    let root = Layer::new()
        .folder("bin")
        .entry("bin/su", EntryType::Regular, "", 0o6755, b"program")
        .symlink("sh", "bin/su")
        .entry("pipe", EntryType::Fifo, "", 0o622, b"")
        .lay_out();
    let su = fs::metadata(root.path().join("bin/su")).unwrap();
    assert_eq!(
        (su.uid(), su.gid(), su.mode() & 0o7777, su.mtime()),
        (1_000, 2_000, 0o755, 1_234_567)
    );
    assert_eq!(fs::metadata(root.path().join("bin")).unwrap().mtime(), 1_234_567);
    let sh = fs::symlink_metadata(root.path().join("sh")).unwrap();
    assert_eq!((sh.uid(), sh.mtime(), sh.is_symlink()), (1_000, 1_234_567, true));
    assert!(fs::metadata(root.path().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn devices_are_left_out() {
    let root = Layer::new()
        .entry("dev/null", EntryType::Char, "", 0o666, b"")
        .entry("dev/sda", EntryType::Block, "", 0o666, b"")
        .lay_out();
    assert_eq!(fs::read_dir(root.path().join("dev")).unwrap().count(), 0);
}

#[test]
fn marks_of_removal_become_the_overlays() {
    let root = Layer::new()
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .lay_out();
    assert!(is_gone(&root, "a/gone"));
    assert!(opaque(&root, "b"));
    assert!(!opaque(&root, "a"));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn a_mark_is_about_the_layers_below_in_whichever_order() {
    let before = Layer::new().file(".wh.f", "").file("f", "new").file(".wh.d", "").file("d/x", "");
    let after = Layer::new().file("f", "new").file(".wh.f", "").file("d/x", "").file(".wh.d", "");
    for layer in [before, after] {
        let root = layer.lay_out();
        assert_eq!(fs::read_to_string(root.path().join("f")).unwrap(), "new");
        assert!(root.path().join("d/x").is_file());
        assert!(opaque(&root, "d"), "what was in it below is gone");
    }
    let root = Layer::new().file(".wh.d", "").folder("d").lay_out();
    assert!(opaque(&root, "d"));
}

#[test]
fn marks_that_name_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        assert!(Layer::new().file(name, "").refusal().contains("removes no name"), "{name}");
    }
}

#[test]
fn a_later_entry_replaces_an_earlier_of_any_kind() {
    let root = Layer::new()
        .file("a", "old")
        .folder("a")
        .file("a/x", "")
        .file("b/x/y/z", "")
        .file("b", "new")
        .symlink("c", "/etc")
        .folder("c")
        .file("d", "old and longer")
        .file("d", "new")
        .lay_out();
    assert!(root.path().join("a/x").is_file());
    assert_eq!(fs::read_to_string(root.path().join("b")).unwrap(), "new");
    assert!(fs::symlink_metadata(root.path().join("c")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(root.path().join("d")).unwrap(), "new");
}

#[test]
fn a_folder_that_comes_again_keeps_what_is_in_it() {
    let root =
        Layer::new().file("a/x", "").entry("a", EntryType::Directory, "", 0o700, b"").lay_out();
    assert!(root.path().join("a/x").is_file());
    let mode = fs::metadata(root.path().join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn no_link_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "mine").unwrap();
    let path = outside.path().to_str().unwrap();
    let name = Path::new(path).file_name().unwrap().to_str().unwrap();
    let root = Layer::new()
        .folder(path)
        .symlink("absolute", path)
        .file("absolute/written", "1")
        .symlink("up", &format!("../../../../../../../../../..{path}"))
        .file("up/also", "2")
        .symlink("file", &format!("{path}/secret"))
        .file("file", "3")
        .lay_out();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "mine");
    // The links were resolved within the tree.
    let inner = root.path().join(&path[1..]);
    assert!(inner.ends_with(name) && inner.join("written").is_file());
    assert!(inner.join("also").is_file());
    assert!(fs::symlink_metadata(root.path().join("file")).unwrap().is_file());
}

#[test]
fn a_folder_link_to_nothing_is_refused() {
    let refusal = Layer::new().symlink("link", "/somewhere").file("link/x", "").refusal();
    assert!(refusal.contains("no folder"), "{refusal}");
}

#[test]
fn a_folder_link_within_the_layer_is_followed_within_the_layer() {
    let root = Layer::new()
        .folder("usr")
        .folder("usr/lib")
        .symlink("lib", "/usr/lib")
        .file("lib/x", "here")
        .lay_out();
    assert_eq!(fs::read_to_string(root.path().join("usr/lib/x")).unwrap(), "here");
}

#[test]
fn names_that_lead_out_are_refused_and_a_leading_slash_means_nothing() {
    for name in ["../x", "a/../../x", "a/.."] {
        assert!(Layer::new().file(name, "").refusal().contains("leads out"), "{name}");
    }
    assert!(Layer::new().link("x", "../y").refusal().contains("leads out"));
    let root = Layer::new().file("/./etc//passwd", "x").lay_out();
    assert!(root.path().join("etc/passwd").is_file());
}

#[test]
fn depth_is_bounded_also_through_links() {
    let deep = |count: usize| "a/".repeat(count);
    let mut layer = Layer::new();
    for start in 0..6 {
        let here = if start == 0 { String::new() } else { format!("s{}/", start - 1) };
        layer = layer.folder(&format!("{here}{}", deep(40)));
        layer = layer.symlink(&format!("s{start}"), &format!("{here}{}", deep(40)));
    }
    let root = tempfile::tempdir().unwrap();
    let laid = lay(&layer.bytes(), &root, &[]);
    assert!(laid.is_err(), "{laid:?}");
    fs::remove_dir_all(root.path()).unwrap();
}

#[test]
fn hard_links_share_a_file_of_their_layer() {
    let root = Layer::new()
        .file("a", "x")
        .link("b", "/a")
        .link("b", "b")
        .link("a", "b")
        .symlink("s", "a")
        .link("t", "s")
        .lay_out();
    let inode = |name: &str| fs::symlink_metadata(root.path().join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert_eq!(inode("s"), inode("t"));
    assert!(Layer::new().link("b", "nothing").refusal().contains("not there"));
    assert!(Layer::new().folder("d").link("b", "d").refusal().contains("no file"));
    assert!(Layer::new().file("d/x", "").link("d", "d/x").refusal().contains("replaces"));
}

#[test]
fn a_hard_link_to_a_file_below_takes_a_copy_of_what_shows_through() {
    let lowest = Layer::new().file("d/a", "hidden").file("b", "below").lay_out();
    let middle = Layer::new().file(".wh.d", "").lay_out();
    let (root, laid) = Layer::new().link("c", "b").on(&[&lowest, &middle]);
    assert!(laid.took_from_below);
    assert_eq!(fs::read_to_string(root.path().join("c")).unwrap(), "below");
    let inode = |root: &TempDir, name: &str| fs::metadata(root.path().join(name)).unwrap().ino();
    assert_eq!(inode(&root, "b"), inode(&root, "c"));
    assert_ne!(inode(&root, "b"), inode(&lowest, "b"));

    let target = tempfile::tempdir().unwrap();
    let below = [lowest.path().to_owned(), middle.path().to_owned()];
    let hidden = lay(&Layer::new().link("c", "d/a").bytes(), &target, &below);
    assert!(matches!(hidden, Err(LayerError::Bad { .. })), "what is gone is not brought back");
    let opaque = Layer::new().file("d/.wh..wh..opq", "").lay_out();
    let below = [lowest.path().to_owned(), opaque.path().to_owned()];
    let hidden = lay(&Layer::new().link("e", "d/a").bytes(), &target, &below);
    assert!(matches!(hidden, Err(LayerError::Bad { .. })), "{hidden:?}");
}

#[test]
fn a_link_below_does_not_lead_out_of_its_layer() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "mine").unwrap();
    let below = tempfile::tempdir().unwrap();
    symlink(outside.path(), below.path().join("d")).unwrap();
    symlink(outside.path().join("secret"), below.path().join("f")).unwrap();
    for target in ["d/secret", "f"] {
        let root = tempfile::tempdir().unwrap();
        let below = [below.path().to_owned()];
        let laid = lay(&Layer::new().link("c", target).bytes(), &root, &below);
        assert!(matches!(laid, Err(LayerError::Bad { .. })), "{target}: {laid:?}");
    }
}

#[test]
fn what_is_in_a_file_is_refused() {
    assert!(Layer::new().file("a", "").file("a/b", "").refusal().contains("no folder"));
    assert!(Layer::new().file("", "").refusal().contains("without a name"));
}

#[test]
fn attributes_for_users_are_kept() {
    let mut layer = Layer::new();
    let records = [("SCHILY.xattr.user.note", &b"yes"[..]), ("SCHILY.xattr.security.x", b"no")];
    layer.0.append_pax_extensions(records).unwrap();
    let root = layer.file("a", "").lay_out();
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(root.path().join("a"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"yes");
}

#[test]
fn entries_and_the_folders_that_their_names_imply_are_bounded_by_the_size() {
    // The smallest entry there is, again and again, takes an eighth of what it counts for.
    let entries = usize::try_from(ALLOWANCE / (BLOCK - 512)).unwrap();
    let layer = |count| Layer::new().folder("/").bytes()[..512].repeat(count);
    let lay = |layer: Vec<u8>| lay(&layer, &tempfile::tempdir().unwrap(), &[]);
    let refused = lay(layer(entries + 1));
    assert!(matches!(&refused, Err(LayerError::Bad { reason }) if reason.contains("too many")));
    lay(layer(entries)).unwrap();

    let path = parts(b"a/b/c/name").unwrap();
    for (entries, bytes) in [(3, 3 * BLOCK), (2, 3 * BLOCK), (3, 3 * BLOCK - 1)] {
        let root = tempfile::tempdir().unwrap();
        let mut room = Room { entries, bytes };
        let placed = Tree::open(root.path()).unwrap().place(&path, &mut room);
        assert_eq!(placed.is_ok(), (entries, bytes) == (3, 3 * BLOCK));
    }
}

#[test]
fn what_names_bring_about_does_not_look_as_if_it_helped_to_try_again() {
    let loops = Layer::new().symlink("a", "a").file("a/b", "").refusal();
    assert!(loops.contains("no file system can hold it"), "{loops}");
    for name in ["SCHILY.xattr.user.", "SCHILY.xattr.user.a\0b"] {
        let mut layer = Layer::new();
        layer.0.append_pax_extensions([(name, &b"x"[..])]).unwrap();
        layer.file("a", "").refusal();
    }
    let mut layer = Layer::new();
    layer.0.append_pax_extensions([("size", &b"100000"[..])]).unwrap();
    assert!(layer.file("a", "x").refusal().contains("ends early"));
}

#[test]
fn what_the_machine_or_the_reader_says_is_no_fault_of_the_layer() {
    for errno in [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        assert!(matches!(LayerError::from(errno), LayerError::Io(_)), "{errno}");
    }
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    let start = Layer::new().file("a", &"x".repeat(2_000)).bytes();
    for length in [0, 512, 1_000] {
        let root = tempfile::tempdir().unwrap();
        let laid = lay_out(start[..length].chain(Broken), 9_999, root.path(), &[]);
        assert!(matches!(laid, Err(LayerError::Io(_))), "{length}: {laid:?}");
    }
}
