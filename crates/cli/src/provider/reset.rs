//! `roadstead provider reset`.

use std::path::PathBuf;

use roadstead_journal::StateFolder;
use roadstead_provider::{Cleared, clear_engine, clear_files, count_open, remove};
use serde::Serialize;

use super::{MARKET_FILE, ProviderError, engine, own_market, wallet};
use crate::{
    arguments::ProviderReset, context::Context, failure::with_causes, home::Role, output::Progress,
    question::confirm, table::facts,
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
    let used = engine::remembered(&folder)?;
    let engine = match used {
        Some(used) => Some(engine::open(&folder, used).await?),
        None => None,
    };
    let containers = match &engine {
        Some(engine) => engine.instances().await?.len(),
        None => 0,
    };
    progress.finish();
    if !command.yes {
        confirm(&warning(&folder, containers, open_jobs))?;
    }

    let cleared = match &engine {
        Some(engine) => clear_engine(&**engine).await?,
        None => Cleared::default(),
    };
    drop(engine);
    remove(&folder.path().join(MARKET_FILE))?;
    for files in engine::all_files(&folder) {
        remove(&files)?;
    }
    clear_files(&folder)?;
    let wallet = wallet::set_aside(&folder)?;
    let report = Report { cleared, open_jobs, folder: path, wallet };
    context.print(&report, || described(&report))
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

/// What cannot be undone.
fn warning(folder: &StateFolder, containers: usize, open_jobs: Option<usize>) -> String {
    let jobs = open_jobs.map_or_else(|| "an unknown number of".to_owned(), |jobs| jobs.to_string());
    format!(
        "This ends {containers} containers and removes their data, all images, cached blocks, receipts and the market \
         from {}.\nOn a chain that still lives, {jobs} open jobs are then lost to this provider, with what they still \
         owe. The keys stay.",
        folder.path().display(),
    )
}

fn described(report: &Report) -> String {
    let Report { cleared: Cleared { containers, images }, open_jobs, folder, wallet } = report;
    let lost = match open_jobs {
        Some(0) => "none".to_owned(),
        Some(jobs) => format!("{jobs}, if their chain still lives"),
        None => "not known".to_owned(),
    };
    let account = wallet.as_ref().map_or_else(
        || "there was none".to_owned(),
        |wallet| format!("its key is kept in {}", wallet.display()),
    );
    let table = facts([
        ("removed", format!("{containers} containers, {images} images, blocks, journal, market")),
        ("open jobs lost", lost),
        ("account", account),
        ("kept", format!("encryption.key and identity.key in {}", folder.display())),
    ]);
    format!("{table}\nNext: `roadstead provider init`.")
}
