//! `roadstead devnet`.

use clap::Args;
use roadstead_devnet::{CHAIN_PORT, ChainChoice, DevnetPorts};

#[derive(Debug, Args)]
pub(crate) struct Devnet {
    /// The chain: `embedded`, `anvil`, or the http:// address of a development chain
    #[arg(long, env = "ROADSTEAD_CHAIN", default_value = "embedded", value_name = "CHAIN")]
    pub(crate) chain: ChainChoice,

    /// The port of the chain. The content store has ports of its own, 47501 (RPC) and 47580 (gateway), whatever this says,
    /// and this cannot be one of them; but 0 stands for free ports that the system chooses, for all three
    #[arg(long, default_value_t = CHAIN_PORT, value_name = "PORT")]
    pub(crate) port: u16,
}

impl Devnet {
    /// Where everything listens.
    pub(crate) fn ports(&self) -> DevnetPorts {
        match self.port {
            0 => DevnetPorts::ANY,
            chain => DevnetPorts { chain, ..DevnetPorts::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use roadstead_devnet::{GATEWAY_PORT, STORE_PORT};

    use crate::arguments::{Arguments, Command};

    fn ports(line: &[&str]) -> super::DevnetPorts {
        let line = [&["roadstead", "devnet"], line].concat();
        match Arguments::try_parse_from(line).unwrap().command {
            Command::Devnet(devnet) => devnet.ports(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_is_the_chains_and_none_is_everybodys() {
        let default = super::DevnetPorts::default();
        assert_eq!(ports(&[]), default);
        assert_eq!(ports(&["--port", "8545"]), super::DevnetPorts { chain: 8545, ..default });
        assert_eq!(ports(&["--port", "0"]), super::DevnetPorts::ANY);
    }

    #[test]
    fn the_help_names_the_ports_of_the_store() {
        let mut command = Arguments::command();
        let devnet = command.find_subcommand_mut("devnet").unwrap();
        let help = devnet.render_long_help().to_string();
        for port in [STORE_PORT, GATEWAY_PORT] {
            assert!(help.contains(&port.to_string()), "{help}");
        }
    }
}
