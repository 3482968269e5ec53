//! `roadstead devnet`: a local market that runs until somebody ends it.

use std::{fmt, path::Path};

use roadstead_devnet::{
    AnvilError, ChainChoice, ChainStartError, Devnet, DevnetConfig, DevnetError, DevnetReport,
    PortTaken,
};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments,
    context::Context,
    failure::Interrupted,
    home::{Home, Role},
    output::Progress,
    signals::Signals,
};

/// What keeps a market from starting, with what to do about it.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}; end that, or let the system choose free ports by `--port 0`")]
    Taken(PortTaken),
    #[error("{0}; name another port, or let the system choose free ports by `--port 0`")]
    Twice(DevnetError),
    #[error("{0}; `script/setup` installs it, or leave out `--chain anvil`")]
    NoAnvil(AnvilError),
}

pub(crate) async fn run(command: arguments::Devnet, context: &Context) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let folder = context.home.lock(Role::Devnet)?;
    let progress = Progress::start();
    progress.wait_for("starting the chain, deploying the contracts");
    let config =
        DevnetConfig { chain: command.chain.clone(), folder: &folder, ports: command.ports() };
    let started = tokio::select! {
        started = Devnet::start(config) => started,
        () = signals.next() => {
            progress.finish();
            Devnet::clean_up(&folder)?;
            return Err(Interrupted { what: "the local market did not run yet".to_owned() }.into());
        }
    };
    progress.finish();
    let devnet = started.map_err(explained)?;
    let home = (!is_default(&context.home)).then(|| context.home.path());
    let printed = context.print(devnet.report(), || Ready { report: devnet.report(), home });
    if printed.is_err() {
        // Nobody knows of it.
        devnet.shutdown().await?;
        return printed;
    }
    if let ChainChoice::Url(url) = &command.chain {
        progress.line(format!("What was deployed stays on the chain at {url}."));
    }

    let stop = CancellationToken::new();
    let mut running = Box::pin(devnet.run(&stop));
    loop {
        // Cancel-safe: the market goes on where it was, and a signal is not lost by not being waited for.
        tokio::select! {
            ended = &mut running => {
                ended?;
                break;
            }
            () = signals.next() => {}
        }
        if stop.is_cancelled() {
            drop(running);
            Devnet::clean_up(&folder)?;
            let what = "the local market was cut off; nothing of it is left".to_owned();
            return Err(Interrupted { what }.into());
        }
        progress.line("Ending; Ctrl-C cuts off whoever still asks for something.");
        stop.cancel();
    }
    progress.line(
        "The local market is gone: its chain, its keys, its blocks. `roadstead provider reset` and `roadstead agent reset` \
         forget what they know of it.",
    );
    Ok(())
}

/// The error, as an obstacle where it is one.
fn explained(error: DevnetError) -> anyhow::Error {
    match error {
        DevnetError::PortTaken(taken) | DevnetError::Chain(ChainStartError::PortTaken(taken)) => {
            Obstacle::Taken(taken).into()
        }
        DevnetError::Chain(ChainStartError::Anvil(missing @ AnvilError::Missing)) => {
            Obstacle::NoAnvil(missing).into()
        }
        twice @ DevnetError::PortTwice { .. } => Obstacle::Twice(twice).into(),
        other => other.into(),
    }
}

/// Whether other commands find this home without being told.
fn is_default(home: &Home) -> bool {
    Home::find(None).is_ok_and(|default| default.path() == home.path())
}

/// What runs, and what to do with it.
struct Ready<'a> {
    report: &'a DevnetReport,
    /// The home, where other commands have to be told of it.
    home: Option<&'a Path>,
}

impl fmt::Display for Ready<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DevnetReport { chain, chain_id, urls, files, accounts, contracts } = self.report;
        let mut line = |name: &str, text: String| writeln!(formatter, "  {name:<14} {text}");
        line("chain", format!("{} (id {chain_id}, {chain})", urls.chain))?;
        line("content store", format!("{} (as a Kubo daemon's RPC)", urls.store))?;
        line("its gateway", urls.gateway.clone())?;
        line("market file", files.market.display().to_string())?;
        line("publisher", format!("{}, with ether and test tokens", accounts.publisher))?;
        line("its key", files.publisher_key.display().to_string())?;
        line("provider", format!("{}, with ether", accounts.provider))?;
        line("its key", files.provider_key.display().to_string())?;
        line("registry", contracts.registry.to_string())?;
        line("payment", contracts.payment.to_string())?;
        line("token", contracts.token.to_string())?;
        formatter.write_str("\nIt runs until Ctrl-C. In other terminals:")?;

        let home = self.home.map(|home| format!(" --home {}", quoted(home))).unwrap_or_default();
        let market = quoted(&files.market);
        let (publisher, provider) = (quoted(&files.publisher_key), quoted(&files.provider_key));
        let workload = match &files.workload {
            Some(example) => quoted(example),
            None => "workload.yaml".to_owned(),
        };
        let address = accounts.provider;
        for (who, commands) in [
            (
                "the provider (its containers need root, or `--engine docker`)",
                vec![
                    format!("provider init --market {market} --key-file {provider}"),
                    "provider register".to_owned(),
                    "provider run".to_owned(),
                ],
            ),
            ("the publisher's agent, which accepts its bills", vec!["agent".to_owned()]),
            (
                "the publisher",
                vec![
                    format!(
                        "publish --market {market} --key-file {publisher} --provider {address} -f {workload}"
                    ),
                    "jobs".to_owned(),
                ],
            ),
        ] {
            write!(formatter, "\n\n# {who}")?;
            for command in commands {
                write!(formatter, "\nroadstead{home} {command}")?;
            }
        }
        Ok(())
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:@,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_a_path_as_it_is() {
        for path in ["/home/me/devnet/market.toml", "/home/it's me/$HOME;`id`", "/a b\"c\\", ""] {
            let line = format!("printf %s {}", quoted(Path::new(path)));
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
        }
    }
}
