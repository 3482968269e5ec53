//! Everything before the transaction.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy_primitives::Address;
use anyhow::Context as _;
use roadstead_core::{cost_of, rate_per_hour};
use roadstead_publisher::{
    CastKey, Deal, Publication, Purse, SealedImage, Wish, cast_lines, find_live, find_publication,
    provider_key, provider_profile, providers, publish, seal,
};
use roadstead_types::{JobId, JobPlan, Market, Resources, Seconds, TokenAmount, content};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::Manifest;
use crate::{
    agent::{About, Door, source_of},
    arguments,
    context::Context,
    home::Role,
    output::Progress,
    publisher::Publisher,
};

/// How long a deposit lasts where none is named.
const LASTING: Seconds = Seconds::from_hours(24);

/// How often a job is metered where nobody says: on a local market, where one wants to see it, and elsewhere.
const INTERVALS: (Seconds, Seconds) = (Seconds(10), Seconds(60));

/// Whom to rent from is not clear.
#[derive(Debug, thiserror::Error)]
#[error("{count} providers are registered; name one by --provider")]
pub(crate) struct ManyProviders {
    count: usize,
}

/// Where a job stands before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is still to be opened.
    Prepared,
    /// It was opened before.
    Live,
}

/// A job that only has to be opened.
pub(super) struct Job {
    pub(super) plan: JobPlan,
    pub(super) standing: Standing,
    pub(super) images: Vec<SealedImage>,
}

/// Seals the images and the bundle, unless the same was done before.
pub(super) async fn prepare(
    command: &arguments::Publish,
    (workload, folder): &Manifest,
    market: &Market,
    publisher: &Publisher,
    agent: &About,
    progress: &Progress,
) -> anyhow::Result<Job> {
    let Publisher { ports, keys, .. } = publisher;
    progress.wait_for("sealing the image");
    let told = |sealing: roadstead_image::SealProgress| {
        let percent = sealing.read.saturating_mul(100) / sealing.size.max(1);
        progress.wait_for(format!("sealing the image, {percent} %"));
    };
    let sealed = seal(ports, keys, workload.clone(), folder, told).await?;
    for image in &sealed.images {
        let (root, new, all) = (image.root, image.new_blocks, image.blocks);
        progress.line(format!("Sealed image {root}: {new} of {all} blocks are new."));
    }
    let start_fee = market.token.parse(&command.start_fee)?;
    let (local, other) = INTERVALS;
    let usual = if market.devnet { local } else { other };
    let wish = Wish {
        provider: command.provider,
        signer: command.signer.filter(|_| command.prepare).unwrap_or(agent.signer),
        interval: command.interval.unwrap_or(usual),
        start_fee,
        notice: command.notice,
        window: Seconds(0),
    };
    // Before any provider is asked: it may be away, or no longer the only one.
    if !command.new
        && let Some(plan) = find_live(ports, keys, &sealed, &wish).await?
    {
        return Ok(Job { plan, standing: Standing::Live, images: sealed.images });
    }
    let provider = match command.provider {
        Some(provider) => provider,
        None => only_provider(publisher, progress).await?,
    };
    progress.wait_for("asking the provider for its prices");
    let key = provider_key(ports, provider).await?;
    let prices = provider_profile(ports, provider).await?.prices;
    let deposit = match &command.deposit {
        Some(amount) => market.token.parse(amount)?,
        None => lasting(&sealed.workload.reservation, &prices, start_fee)?,
    };
    let Wish { signer, interval, notice, window, .. } = wish;
    let named = command.agent.source.clone().or_else(|| publisher.source.clone());
    let source = named.unwrap_or_else(|| agent.source.clone());
    let deal = Deal {
        provider,
        signer,
        deposit,
        prices,
        interval,
        start_fee,
        notice,
        window,
        salt: 0,
        source,
    };
    let found = find_publication(ports, keys, &sealed, &deal, command.new).await?;
    let (plan, standing) = match found {
        Publication::Live(plan) => (*plan, Standing::Live),
        Publication::Prepared(plan) => (*plan, Standing::Prepared),
        Publication::New { salt } => {
            progress.wait_for("sealing the bundle");
            let deal = Deal { salt, ..deal };
            let prepared = publish(ports, keys, market, &sealed, &key, &deal).await?;
            (prepared.plan, Standing::Prepared)
        }
    };
    Ok(Job { plan, standing, images: sealed.images })
}

/// The provider of the market, if there is only one.
async fn only_provider(publisher: &Publisher, progress: &Progress) -> anyhow::Result<Address> {
    progress.wait_for("looking for providers");
    let ports = &publisher.ports;
    let listed = providers(&*ports.reader, &*ports.link).await?;
    match listed.as_slice() {
        [only] => {
            progress.line(format!("Provider {} is the only one.", only.provider));
            Ok(only.provider)
        }
        many => Err(ManyProviders { count: many.len() }.into()),
    }
}

/// What [`LASTING`] costs at full use, on top of the start fee.
fn lasting(
    reservation: &Resources<u64>,
    prices: &Resources<u128>,
    start_fee: TokenAmount,
) -> anyhow::Result<TokenAmount> {
    let rate = rate_per_hour(reservation, prices);
    let rate = rate.context("what is reserved costs more than can be paid")?;
    let deposit = cost_of(rate, LASTING).checked_add(start_fee);
    let deposit = deposit.context("what is reserved costs more than can be paid")?;
    // The contract takes no empty deposit.
    Ok(deposit.max(TokenAmount::new(1)?))
}

/// A job that somebody else's wallet opens.
#[derive(Serialize)]
struct Lines {
    job: JobId,
    /// The file for `roadstead agent adopt`.
    plan: PathBuf,
    publisher: Address,
    provider: Address,
    signer: Address,
    deposit: TokenAmount,
    image_roots: Vec<String>,
    bundle: String,
    /// Whether the agent of this home folder accepts its bills.
    is_adopted: bool,
    lines: [String; 2],
}

/// `publish --prepare`.
pub(super) async fn print_lines(
    command: &arguments::Publish,
    context: &Context,
    manifest: Manifest,
    market: &Market,
    purse: Purse,
    progress: &Progress,
) -> anyhow::Result<()> {
    let door = match Door::running(context, market).await? {
        Some(door) => door,
        None => Door::find(context, market, &source_of(&command.agent)?).await?,
    };
    let publisher = Publisher::open(context, market, purse, &command.store).await?;
    let job = prepare(command, &manifest, market, &publisher, door.about(), progress).await?;
    let Job { plan, standing, images } = job;
    let (job, terms) = (plan.key.job, &plan.terms);
    let is_adopted = terms.signer == door.about().signer;
    if is_adopted {
        door.adopt(&plan).await?;
    }
    let path = match &command.plan {
        Some(path) => std::path::absolute(path)?,
        None => context.home.role_path(Role::Publisher).join(format!("{job}.plan.json")),
    };
    write_plan(&path, &plan)?;
    let key = if command.key_variable { CastKey::Variable } else { CastKey::Prompt };
    let lines = cast_lines(&plan, market, &key)?;
    progress.finish();
    if standing == Standing::Live {
        progress.line(format!("Job {job} is open already; another one takes --new."));
    }
    if !is_adopted {
        let path = path.display();
        progress.line(format!(
            "The agent {} has to know the job before its first bill: roadstead agent adopt {path}",
            terms.signer
        ));
    }
    progress.line(match key {
        CastKey::Variable => {
            "These lines open the job. Cast takes the key from PUBLISHER_KEY, and whoever may look at processes of this \
             user can read it while cast runs:"
        }
        _ => "These lines open the job. Cast asks for the key:",
    });
    let report = Lines {
        job,
        plan: path,
        publisher: terms.publisher,
        provider: terms.provider,
        signer: terms.signer,
        deposit: plan.deposit,
        image_roots: images.iter().map(|image| image.root.to_string()).collect(),
        bundle: content::content_id(content::RAW, terms.bundle).to_string(),
        is_adopted,
        lines,
    };
    context.print(&report, || report.lines.join("\n"))
}

/// The plan holds no secret, but what is rented at which price is nobody else's business. A file that is no plan is left
/// as it is.
fn write_plan(path: &Path, plan: &JobPlan) -> anyhow::Result<()> {
    let failed = || format!("the prepared job cannot be written to {}", path.display());
    let is_plan = |text: &str| serde_json::from_str::<JobPlan>(text).is_ok();
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(text) if is_plan(&text) => {}
        Ok(_) => return Err(anyhow::anyhow!("something else is there")).with_context(failed),
        Err(error) => return Err(error).with_context(failed),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
    let mut file = file.with_context(failed)?;
    serde_json::to_writer_pretty(&mut file, plan).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}
