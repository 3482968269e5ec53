//! `roadstead provider register`.

use roadstead_provider::{
    Keys, Registered, RegistryChange, register_entry, registration, wire_registry,
};

use super::{open, wallet};
use crate::{arguments::ProviderRegister, context::Context};

pub(super) async fn run(command: &ProviderRegister, context: &Context) -> anyhow::Result<()> {
    let (folder, market) = open(context)?;
    let profile = command.offer.profile(&market)?;
    let keys = Keys::load_or_create(&folder)?;
    let wanted = registration(&keys, command.offer.announced().clone(), &profile)?;
    let wallet = wallet::load(&folder, command.password.password_file.clone())?;
    let ports = wire_registry(market, wallet, &folder).await?;
    let registered = register_entry(&*ports.reader, &*ports.writer, wanted).await?;
    context.print(&registered, || described(&registered))
}

fn described(registered: &Registered) -> String {
    let Registered { provider, endpoint, change, .. } = registered;
    let what = match change {
        RegistryChange::Registered => "is registered now",
        RegistryChange::Updated => "is registered; its entry was brought up to date",
        RegistryChange::Unchanged => "is registered already; nothing was changed",
    };
    format!(
        "Provider {provider} {what}. It is to be reached at\n{endpoint}\nNext: `roadstead provider run`, with the same flags."
    )
}
