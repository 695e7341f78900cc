//! Single values that are checked while they are read. The errors name the value and the way out.

use std::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, Error};

use crate::store;

pub(super) fn store_field<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let url = String::deserialize(input)?;
    store::check_url(&url).map_err(D::Error::custom)?;
    Ok(url)
}

pub(super) fn listen_field<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(input)?;
    let numeric = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| {
        D::Error::custom(format!("`{text}` is not an address and a port: write it as in `127.0.0.1:8080`"))
    })
}

pub(super) fn slots_field<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    match usize::deserialize(input)? {
        slots @ 1..=4096 => Ok(slots),
        slots => Err(D::Error::custom(format!("`{slots}` is not a number of slots: write 1 to 4096"))),
    }
}

pub(super) fn hosts_field<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let hosts = Vec::<String>::deserialize(input)?;
    let is_name =
        |host: &str| !host.is_empty() && !host.contains(['/', ':', '*', '@']) && !host.contains(char::is_whitespace);
    match hosts.iter().find(|host| !is_name(host)) {
        Some(host) => Err(D::Error::custom(format!(
            "`{host}` is not a host name: write it without scheme, port and star, as in `umbel.example.com`"
        ))),
        None => Ok(hosts.iter().map(|host| host.to_lowercase()).collect()),
    }
}
