//! `roadstead provider reset`.
//!
//! The market file goes first and the note about the engine last. So what an interrupted reset leaves is never taken for a
//! whole provider, and the same command finishes it.

use std::{path::PathBuf, sync::Arc};

use roadstead_core::ports::Engine;
use roadstead_journal::StateFolder;
use roadstead_provider::{Cleared, Clearing, clear_engine, clear_files, count_open, remove};
use serde::Serialize;

use super::{MARKET_FILE, ProviderError, engine, own_market, wallet};
use crate::{
    arguments::ProviderReset,
    context::Context,
    failure::{Interrupted, with_causes},
    home::Role,
    output::Progress,
    question::confirm,
    signals::Signals,
    table::facts,
};

/// What went, and what did not.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    cleared: Cleared,
    /// How many jobs were open by the journal; `null` where that could not be read.
    open_jobs: Option<usize>,
    folder: PathBuf,
    /// Where the account's key is now; `null` where there was none.
    wallet: Option<PathBuf>,
}

pub(super) async fn run(command: &ProviderReset, context: &Context) -> anyhow::Result<()> {
    let path = context.home.role_path(Role::Provider);
    if !path.exists() {
        return Err(ProviderError::NotInitialised { path }.into());
    }
    let folder = context.home.lock(Role::Provider)?;
    let progress = Progress::start();
    let open_jobs = open_jobs(context, &folder, &progress).await;
    let engines = engine::used(&folder, &progress).await?;
    let mut containers = 0;
    for engine in &engines {
        containers += engine.instances().await?.len();
    }
    if !command.yes {
        progress.finish();
        confirm(&warning(&folder, containers, open_jobs))?;
    }

    // Before this nothing was removed that a signal would leave half of.
    let mut signals = Signals::listen()?;
    let progress = Progress::start();
    // A removal that is cut off may be repeated, as after a crash.
    let (cleared, wallet) = tokio::select! {
        removed = remove_all(&folder, engines, &progress) => removed?,
        () = signals.next() => {
            progress.finish();
            let what = "not all is removed yet; run `roadstead provider reset` again".to_owned();
            return Err(Interrupted { what }.into());
        }
    };
    progress.finish();
    let report = Report { cleared, open_jobs, folder: path, wallet };
    context.print(&report, || described(&report))
}

/// Removes all but the keys, and says where the account's key is afterwards.
async fn remove_all(
    folder: &StateFolder,
    engines: Vec<Arc<dyn Engine>>,
    progress: &Progress,
) -> anyhow::Result<(Cleared, Option<PathBuf>)> {
    remove(&folder.path().join(MARKET_FILE))?;
    let mut cleared = Cleared::default();
    for engine in engines {
        let one = clear_engine(&engine, |step| match step {
            Clearing::Container { number, of } => {
                progress.line(format!("ending container {number} of {of}"));
            }
            Clearing::Image { number, of } => {
                progress.wait_for(format!("removing image {number} of {of}"));
            }
        });
        let Cleared { containers, images } = one.await?;
        cleared.containers += containers;
        cleared.images += images;
    }
    progress.wait_for("removing blocks and journal");
    clear_files(folder)?;
    let wallet = wallet::set_aside(folder)?;
    for files in engine::all_files(folder) {
        remove(&files)?;
    }
    Ok((cleared, wallet))
}

/// How many jobs the journal knows as open. Nothing is kept from being removed by not being readable.
async fn open_jobs(context: &Context, folder: &StateFolder, progress: &Progress) -> Option<usize> {
    let counted = match own_market(context) {
        Ok(market) => count_open(folder, &market).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let said = |error: anyhow::Error| {
        let why = with_causes(error.as_ref());
        progress.line(format!("How many jobs are open is not known: {why}"));
    };
    counted.map_err(said).ok()
}

/// What cannot be undone, and what can.
fn warning(folder: &StateFolder, containers: usize, open_jobs: Option<usize>) -> String {
    let jobs = open_jobs.map_or_else(|| "an unknown number of".to_owned(), |jobs| jobs.to_string());
    format!(
        "This ends {containers} containers and removes their data, all images, cached blocks, receipts and the market \
         from {}.\nThe node's keys stay, and the account's key is moved aside. On a chain that still lives, {jobs} open \
         jobs are hosted again, from their beginning, once the same account is taken in again; what they owe and is not \
         paid yet can then be had only as far as their agents give the receipts back.",
        folder.path().display(),
    )
}

fn described(report: &Report) -> String {
    let Report { cleared: Cleared { containers, images }, open_jobs, folder, wallet } = report;
    let open = match open_jobs {
        Some(0) => "none".to_owned(),
        Some(jobs) => {
            format!("{jobs}; they come back with this account, if their chain still lives")
        }
        None => "not known".to_owned(),
    };
    let account = wallet.as_ref().map_or_else(
        || "there was none".to_owned(),
        |wallet| format!("its key is kept in {}", wallet.display()),
    );
    let table = facts([
        ("removed", format!("{containers} containers, {images} images, blocks, journal, market")),
        ("open jobs", open),
        ("account", account),
        ("kept", format!("encryption.key and identity.key in {}", folder.display())),
    ]);
    let back = wallet.as_ref().map(|wallet| {
        let back = wallet::way_back(wallet);
        format!(" `{back}` takes the same account in again.")
    });
    format!(
        "{table}\nNext: `roadstead provider init`, which makes a new account.{}",
        back.unwrap_or_default()
    )
}
