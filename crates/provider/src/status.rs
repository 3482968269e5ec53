//! How a provider stands: what its journal, its engine and the chain say.
//!
//! Nothing of it is asked of the daemon, so it is the same whether or not one runs. Without a daemon the list of jobs is
//! the one that the last daemon wrote down. The money of each job is the chain's; where that does not answer it is what was
//! last written down of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use alloy_primitives::{Address, B256, U256};
use roadstead_core::{
    JobAccount, JobRecord,
    ports::{
        ChainError, ChainReader, Endpoints, Engine, EngineError, ExposeError, Observation, Phase,
        RegistryEntry,
    },
    with_causes,
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{InstanceId, Job, JobId, JobStatus, Seconds, Timestamp, TokenAmount};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::Ports;

/// How many slots are asked for at once.
const AT_ONCE: usize = 16;

/// What it takes to say how a provider stands.
#[derive(Clone)]
pub struct StatusPorts {
    /// The provider.
    pub account: Address,
    /// Reads the chain; where it cannot be used at all, why.
    pub reader: Result<Arc<dyn ChainReader>, String>,
    /// What the provider has written down.
    pub journal: Journal,
    /// What runs its containers, if anything ever did.
    pub engine: Option<Arc<dyn Engine>>,
    /// Where they are called.
    pub endpoints: Arc<dyn Endpoints>,
}

impl From<&Ports> for StatusPorts {
    fn from(ports: &Ports) -> Self {
        Self {
            account: ports.writer.account(),
            reader: Ok(ports.reader.clone()),
            journal: ports.journal.clone(),
            engine: Some(ports.engine.clone()),
            endpoints: ports.endpoints.clone(),
        }
    }
}

impl fmt::Debug for StatusPorts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StatusPorts").field("account", &self.account).finish()
    }
}

/// How a provider stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// Its account.
    pub account: Address,
    /// What the chain says of it; `None` where it does not answer.
    pub chain: Option<ChainStatus>,
    /// Why the chain says nothing.
    pub chain_error: Option<String>,
    /// The jobs that it knows, by id. One that is over stays until that is deep in the chain.
    pub jobs: Vec<HostedJob>,
}

/// What the chain says of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// Ether in its wallet, in wei, from which it pays for transactions; 2^128 - 1 where it is more.
    pub wei: u128,
    /// Tokens in its wallet; 2^96 - 1 base units where it is more.
    pub wallet: TokenAmount,
    /// Tokens in the escrow that are its own to withdraw, counted likewise.
    pub escrow: TokenAmount,
    /// What the registry says of it.
    pub registry: RegistryStatus,
}

/// What the registry says of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RegistryStatus {
    /// Nothing.
    Absent,
    /// An endpoint that nobody can use.
    Unusable,
    /// It is registered.
    Registered {
        /// Where it says that it listens.
        endpoint: String,
        /// SHA-256 digest of its profile.
        profile: B256,
    },
}

/// One job at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedJob {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub publisher: Address,
    /// Where it stands.
    pub phase: HostedPhase,
    /// Where each of its ports can be called.
    pub urls: BTreeMap<u16, String>,
    /// All that was metered.
    pub metered: TokenAmount,
    /// All that its signer accepted.
    pub accepted: TokenAmount,
    /// All that was paid.
    pub paid: TokenAmount,
    /// What it may cost at most.
    pub deposit: TokenAmount,
    /// For how long the rest of the deposit lasts at full use, where it is metered.
    pub runway: Option<Seconds>,
    /// For how long it has been open.
    pub open_for: Seconds,
}

/// Where a job at a provider stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostedPhase {
    /// It has no container yet.
    Waiting,
    /// Its container runs.
    Running,
    /// Its container is frozen for money.
    Paused,
    /// Its container ended by itself.
    Exited,
    /// Its last bill was made.
    Draining,
    /// It is over, and not yet so deep in the chain that it is forgotten.
    Closed,
}

impl fmt::Display for HostedPhase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
            Self::Draining => "draining",
            Self::Closed => "closed",
        })
    }
}

/// Why it cannot be said how a provider stands.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// What was written down cannot be read.
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    /// The engine does not say what runs.
    #[error("the container engine does not answer")]
    Engine(#[from] EngineError),
    /// It is not known where a port can be called.
    #[error(transparent)]
    Expose(#[from] ExposeError),
}

/// Says how a provider stands.
pub async fn status(ports: &StatusPorts) -> Result<ProviderStatus, StatusError> {
    let StatusPorts { account, reader, journal, .. } = ports;
    let book = journal.book().await?.map(|(_, book)| book).unwrap_or_default();
    let mut accounts: BTreeMap<_, _> = journal.accounts().await?.into_iter().collect();
    let known = book.jobs().map(|(job, _)| job).collect();
    let read = match reader {
        Ok(reader) => read(reader, *account, known).await.map_err(|error| with_causes(&error)),
        Err(unusable) => Err(unusable.clone()),
    };
    let (read, chain_error) = match read {
        Ok(read) => (Some(read), None),
        Err(error) => (None, Some(error)),
    };
    let (now, chain, mut slots) = match read {
        Some(Read { now, chain, slots }) => (now, Some(chain), slots),
        None => (machine_time(), None, BTreeMap::new()),
    };
    let mut jobs = Vec::new();
    for (job, record) in book.jobs() {
        // An opening that was undone has no slot, and the daemon will hear of it.
        let slot = slots.remove(&job).filter(|slot| slot.status() != JobStatus::Absent);
        let slot = slot.unwrap_or(record.job());
        jobs.push(describe(ports, job, record, &slot, accounts.remove(&job), now).await?);
    }
    Ok(ProviderStatus { account: *account, chain, chain_error, jobs })
}

/// What is asked of the chain.
struct Read {
    now: Timestamp,
    chain: ChainStatus,
    slots: BTreeMap<JobId, Job>,
}

async fn read(
    reader: &Arc<dyn ChainReader>,
    account: Address,
    jobs: Vec<JobId>,
) -> Result<Read, ChainError> {
    let now = reader.head().await?.timestamp;
    let registry = match reader.registration(account).await? {
        RegistryEntry::Absent => RegistryStatus::Absent,
        RegistryEntry::Unusable => RegistryStatus::Unusable,
        RegistryEntry::Registered(entry) => RegistryStatus::Registered {
            endpoint: entry.endpoint.to_string(),
            profile: entry.profile,
        },
    };
    let chain = ChainStatus {
        wei: reader.ether_balance(account).await?.saturating_to(),
        wallet: saturated(reader.token_balance(account).await?),
        escrow: saturated(reader.escrow_balance(account).await?),
        registry,
    };
    Ok(Read { now, chain, slots: slots(reader, jobs).await? })
}

/// The time where no chain says it.
fn machine_time() -> Timestamp {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_block(elapsed.as_secs())
}

/// How many instances of an engine have processes.
pub async fn count_living(engine: &dyn Engine) -> Result<usize, EngineError> {
    let mut living = 0;
    for id in engine.instances().await? {
        let observed = engine.observe(&id).await?;
        living += usize::from(observed.is_some_and(|observed| is_living(&observed)));
    }
    Ok(living)
}

fn is_living(observed: &Observation) -> bool {
    matches!(observed.phase, Phase::Running | Phase::Frozen)
}

async fn slots(
    reader: &Arc<dyn ChainReader>,
    jobs: Vec<JobId>,
) -> Result<BTreeMap<JobId, Job>, ChainError> {
    let mut slots = BTreeMap::new();
    for some in jobs.chunks(AT_ONCE) {
        let mut asked = JoinSet::new();
        for job in some.iter().copied() {
            let reader = reader.clone();
            asked.spawn(async move { reader.job(job).await.map(|slot| (job, slot)) });
        }
        for found in asked.join_all().await {
            let (job, slot) = found?;
            slots.insert(job, slot);
        }
    }
    Ok(slots)
}

async fn describe(
    ports: &StatusPorts,
    job: JobId,
    record: &JobRecord,
    slot: &Job,
    account: Option<JobAccount>,
    now: Timestamp,
) -> Result<HostedJob, StatusError> {
    let observed = match &ports.engine {
        Some(engine) => engine.observe(&InstanceId::first(job)).await?,
        None => None,
    };
    let mut urls = BTreeMap::new();
    for (port, target) in observed.iter().filter(|it| is_living(it)).flat_map(|it| &it.ports) {
        urls.insert(*port, ports.endpoints.expose(job, *port, *target).await?);
    }
    let observed = observed.map(|observed| observed.phase);
    let phase = phase(slot.status(), account.as_ref(), observed);
    let metered = account.as_ref().and_then(|account| account.head().map(|head| head.cumulative));
    let accepted = account.as_ref().and_then(JobAccount::accepted);
    let accepted = accepted.map(|(_, voucher)| voucher.bill.cumulative);
    Ok(HostedJob {
        job,
        publisher: record.terms().publisher,
        phase,
        urls,
        metered: metered.unwrap_or_default(),
        accepted: accepted.unwrap_or_default(),
        paid: slot.paid,
        deposit: slot.deposit,
        runway: account.map(|account| account.runway(slot)),
        open_for: now.since(record.opened_at()),
    })
}

fn saturated(balance: U256) -> TokenAmount {
    TokenAmount::try_from(balance).unwrap_or(TokenAmount::MAX)
}

fn phase(status: JobStatus, account: Option<&JobAccount>, observed: Option<Phase>) -> HostedPhase {
    let is_paused = account.is_some_and(JobAccount::is_paused);
    match (status, observed) {
        (JobStatus::Closed, _) => HostedPhase::Closed,
        _ if account.is_some_and(JobAccount::is_ending) => HostedPhase::Draining,
        (_, Some(Phase::Frozen)) => HostedPhase::Paused,
        (_, Some(Phase::Running)) if is_paused => HostedPhase::Paused,
        (_, Some(Phase::Running)) => HostedPhase::Running,
        (_, Some(Phase::Exited { .. })) => HostedPhase::Exited,
        (_, None) => HostedPhase::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use roadstead_journal::{JournalBinding, StateFolder};
    use roadstead_types::{Resources, Tariff};

    use super::*;
    use crate::LoopbackEndpoints;

    const EXITED: Phase = Phase::Exited { status: Some(1), out_of_memory: None };

    fn account() -> JobAccount {
        let tariff = Tariff {
            interval: Seconds(2),
            reservation: Resources::default(),
            prices: Resources::default(),
        };
        JobAccount::open(JobId::default(), tariff, Timestamp(7))
    }

    #[tokio::test]
    async fn a_chain_that_says_nothing_keeps_the_rest_from_nobody() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let binding =
            JournalBinding { chain: 31_337, genesis: B256::ZERO, contract: Address::ZERO };
        let ports = StatusPorts {
            account: Address::repeat_byte(7),
            reader: Err("nobody listens".into()),
            journal: Journal::open(&folder, &binding).unwrap(),
            engine: None,
            endpoints: Arc::new(LoopbackEndpoints),
        };
        let said = status(&ports).await.unwrap();
        let expected = ProviderStatus {
            account: ports.account,
            chain: None,
            chain_error: Some("nobody listens".into()),
            jobs: Vec::new(),
        };
        assert_eq!(said, expected);
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<ProviderStatus>(&text).unwrap(), expected);
    }

    #[test]
    fn a_phase_is_what_chain_account_and_engine_say_together() {
        let (running, frozen) = (Some(Phase::Running), Some(Phase::Frozen));
        let (mut paused, mut ending) = (account(), account());
        paused.set_paused(true);
        ending.end(Timestamp(8));
        for (status, account, observed, expected) in [
            (JobStatus::Open, None, None, HostedPhase::Waiting),
            (JobStatus::Open, None, running, HostedPhase::Running),
            (JobStatus::Open, Some(account()), running, HostedPhase::Running),
            (JobStatus::Closing, Some(account()), Some(EXITED), HostedPhase::Exited),
            // Frozen before the journal says so, and written down before it is frozen.
            (JobStatus::Open, Some(account()), frozen, HostedPhase::Paused),
            (JobStatus::Open, Some(paused), running, HostedPhase::Paused),
            (JobStatus::Open, Some(ending.clone()), running, HostedPhase::Draining),
            (JobStatus::Closed, Some(ending), running, HostedPhase::Closed),
        ] {
            assert_eq!(phase(status, account.as_ref(), observed), expected, "{observed:?}");
        }
    }
}
