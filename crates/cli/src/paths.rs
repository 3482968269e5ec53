//! `roadstead paths`: where everything is. Nothing is made.

use std::{collections::BTreeMap, path::PathBuf};

use roadstead_journal::{FolderError, StateFolder};
use serde::Serialize;

use crate::{
    arguments::MarketFile,
    context::Context,
    failure::with_causes,
    home::{Home, Role},
    table::rows,
};

/// The name of the socket in the folder of a role, where commands ask the process that holds it.
const SOCKET: &str = "control";

/// Roles whose process can be asked.
const ASKED: [Role; 2] = [Role::Provider, Role::Agent];

#[derive(Serialize)]
struct Paths {
    home: Place,
    /// What is not said on the command line.
    settings: Place,
    market: Place,
    folders: BTreeMap<&'static str, RoleFolder>,
    sockets: BTreeMap<&'static str, Place>,
}

#[derive(Serialize)]
struct Place {
    path: PathBuf,
    exists: bool,
}

impl Place {
    fn new(path: PathBuf) -> Self {
        Self { exists: path.exists(), path }
    }
}

#[derive(Serialize)]
struct RoleFolder {
    #[serde(flatten)]
    place: Place,
    /// Whether a process works in it.
    in_use: bool,
    /// Why no process can.
    trouble: Option<String>,
}

pub(crate) fn run(command: &MarketFile, context: &Context) -> anyhow::Result<()> {
    let home = &context.home;
    let roles = [Role::Devnet, Role::Provider, Role::Publisher, Role::Agent];
    let socket = |role: Role| Place::new(home.role_path(role).join(SOCKET));
    let paths = Paths {
        home: Place::new(home.path().to_owned()),
        settings: Place::new(home.settings_file()),
        market: Place::new(context.market_path(command)),
        folders: roles.map(|role| (role.name(), look(home, role))).into(),
        sockets: ASKED.map(|role| (role.name(), socket(role))).into(),
    };
    context.print(&paths, || described(&paths))
}

fn look(home: &Home, role: Role) -> RoleFolder {
    let place = Place::new(home.role_path(role));
    let looked = if place.exists { StateFolder::look(&place.path) } else { Ok(()) };
    let in_use = matches!(looked, Err(FolderError::InUse { .. }));
    let trouble = looked.err().filter(|_| !in_use).map(|error| with_causes(&error));
    RoleFolder { place, in_use, trouble }
}

fn described(paths: &Paths) -> String {
    let exists = |place: &Place| if place.exists { "is there" } else { "not there yet" };
    let row = |name: String, place: &Place| {
        [name, place.path.display().to_string(), exists(place).to_owned()]
    };
    let folders = paths.folders.iter().map(|(role, folder)| {
        let state = match &folder.trouble {
            Some(trouble) => trouble.clone(),
            None if folder.in_use => "in use by a process".to_owned(),
            None => exists(&folder.place).to_owned(),
        };
        [format!("folder `{role}`"), folder.place.path.display().to_string(), state]
    });
    let sockets =
        paths.sockets.iter().map(|(role, place)| row(format!("socket of the {role}"), place));
    let first = [
        row("home".to_owned(), &paths.home),
        row("settings".to_owned(), &paths.settings),
        row("market file".to_owned(), &paths.market),
    ];
    rows(["what", "where", ""], first.into_iter().chain(folders).chain(sockets)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{self, Replies};

    #[tokio::test]
    async fn the_socket_is_where_processes_listen() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let answer = |_: u32, replies: Replies| async move { replies.send(&1).await };
        let _server = control::serve(&folder, answer).unwrap();
        assert!(home.path().join(SOCKET).exists());
    }

    #[test]
    fn looking_makes_nothing_and_sees_who_works() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path().join("home"))).unwrap();
        let before = look(&home, Role::Agent);
        assert!(!before.place.exists && !before.in_use && before.trouble.is_none());
        assert!(!home.path().exists());
        let lock = home.lock(Role::Agent).unwrap();
        let during = look(&home, Role::Agent);
        assert!(during.place.exists && during.in_use && during.trouble.is_none());
        drop(lock);
        let after = look(&home, Role::Agent);
        assert!(after.place.exists && !after.in_use && after.trouble.is_none());
    }
}
