//! What a request asks for: the content id, the form of the answer, and how much of the graph.

use axum::http::{HeaderMap, StatusCode, header};
use roadstead_types::Cid;
use url::form_urlencoded;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One block.
    Raw,
    /// A CAR stream.
    Car(Scope),
}

/// How much of a graph a CAR holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The root alone.
    Block,
    /// A file with all its blocks, or the root of anything else.
    Entity,
    /// The whole graph.
    All,
}

/// Why there is no answer, and what to tell.
pub(super) type Refusal = (StatusCode, &'static str);

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const NOT_ACCEPTABLE: StatusCode = StatusCode::NOT_ACCEPTABLE;
const NOT_IMPLEMENTED: StatusCode = StatusCode::NOT_IMPLEMENTED;

/// What the `Accept` header leaves to choose.
enum Accepted {
    Nothing,
    Raw,
    /// With parameters that we can honour.
    Car,
    /// Types we do not have, or a CAR as we do not make it.
    Others,
}

/// Reads the content id of a path.
pub(super) fn content_id(text: &str) -> Result<Cid, Refusal> {
    // The longest id that means anything: a digest of 64 bytes in base 16, and a few bytes before it.
    if text.len() > 160 {
        return Err((BAD, "the content id is too long"));
    }
    Cid::try_from(text).map_err(|_| (BAD, "this is no content id"))
}

/// Reads the form: the query decides where it speaks, then the header.
pub(super) fn form(query: Option<&str>, headers: &HeaderMap) -> Result<Form, Refusal> {
    let mut format = None;
    let mut scope = Scope::All;
    let mut is_range = false;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (name.as_ref(), value.as_ref()) {
            ("format", "raw") => format = Some(Accepted::Raw),
            ("format", "car") => format = Some(Accepted::Car),
            ("format", _) => return Err((NOT_ACCEPTABLE, "only raw and car are served")),
            ("dag-scope", "block") => scope = Scope::Block,
            ("dag-scope", "entity") => scope = Scope::Entity,
            ("dag-scope", "all") => scope = Scope::All,
            ("dag-scope", _) => return Err((BAD, "dag-scope is block, entity or all")),
            ("entity-bytes", _) => is_range = true,
            ("car-version" | "car-order" | "car-dups", value)
                if !is_honoured(&name["car-".len()..], value) =>
            {
                return Err((NOT_ACCEPTABLE, "a car is version 1, order dfs, dups n"));
            }
            _ => {}
        }
    }
    match format.unwrap_or_else(|| accepted(headers)) {
        // A block has no ranges of an entity: the parameter means nothing there.
        Accepted::Raw => Ok(Form::Raw),
        Accepted::Car if is_range => Err((NOT_IMPLEMENTED, "entity-bytes is not served")),
        Accepted::Car => Ok(Form::Car(scope)),
        Accepted::Others => Err((NOT_ACCEPTABLE, "only raw blocks and cars are served")),
        Accepted::Nothing => Err((BAD, "neither Accept nor format says what to answer with")),
    }
}

fn accepted(headers: &HeaderMap) -> Accepted {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut found = Accepted::Nothing;
    for range in values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if media_type.is_empty() {
            continue;
        }
        // The first that can be served is as good as the most wanted: either is what the client asked for.
        if media_type.eq_ignore_ascii_case("application/vnd.ipld.raw") {
            return Accepted::Raw;
        }
        let is_car = media_type.eq_ignore_ascii_case("application/vnd.ipld.car");
        if is_car && parts.all(|part| part.split_once('=').is_none_or(|(n, v)| is_honoured(n, v))) {
            return Accepted::Car;
        }
        found = Accepted::Others;
    }
    found
}

/// Whether a CAR is as this parameter wants it; `unk` leaves the order open.
fn is_honoured(name: &str, value: &str) -> bool {
    let value = value.trim().trim_matches('"');
    match name.trim().to_ascii_lowercase().as_str() {
        "version" => value == "1",
        "order" => matches!(value, "" | "dfs" | "unk"),
        "dups" => matches!(value, "" | "n"),
        _ => true,
    }
}

impl Scope {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Entity => "entity",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, accept: &str) -> Result<Form, u16> {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        form(Some(query), &headers).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn query_and_header_choose_the_form() {
        const RAW: &str = "application/vnd.ipld.raw";
        const CAR: &str = "application/vnd.ipld.car";
        for (query, accept, expected) in [
            ("format=raw", "", Ok(Form::Raw)),
            ("format=car", "", Ok(Form::Car(Scope::All))),
            ("", RAW, Ok(Form::Raw)),
            ("", "Application/VND.ipld.raw;q=0.5", Ok(Form::Raw)),
            ("", "text/html, application/vnd.ipld.raw", Ok(Form::Raw)),
            ("", CAR, Ok(Form::Car(Scope::All))),
            (
                "",
                "application/vnd.ipld.car; version=1; order=dfs; dups=n",
                Ok(Form::Car(Scope::All)),
            ),
            ("", "application/vnd.ipld.car;order=unk", Ok(Form::Car(Scope::All))),
            ("format=raw", CAR, Ok(Form::Raw)),
            ("format=car&dag-scope=block", "*/*", Ok(Form::Car(Scope::Block))),
            ("format=car&dag-scope=entity&filename=a", "", Ok(Form::Car(Scope::Entity))),
            ("format=car&car-version=1&car-order=dfs&car-dups=n", "", Ok(Form::Car(Scope::All))),
            ("", "", Err(400)),
            ("dag-scope=all", "", Err(400)),
            ("format=car&dag-scope=most", "", Err(400)),
            ("", "text/html", Err(406)),
            ("", "*/*", Err(406)),
            ("format=tar", "", Err(406)),
            ("format=dag-json", RAW, Err(406)),
            ("", "application/vnd.ipld.car; version=2", Err(406)),
            ("", "application/vnd.ipld.car; dups=y", Err(406)),
            ("format=car&car-dups=y", "", Err(406)),
            ("format=car&car-order=bfs", "", Err(406)),
            ("format=car&entity-bytes=0:5", "", Err(501)),
            ("entity-bytes=0:5", CAR, Err(501)),
            ("format=raw&entity-bytes=0:5", "", Ok(Form::Raw)),
            ("entity-bytes=0:5", RAW, Ok(Form::Raw)),
            (
                "",
                "application/vnd.ipld.car; dups=y, application/vnd.ipld.car; dups=n",
                Ok(Form::Car(Scope::All)),
            ),
        ] {
            assert_eq!(asked(query, accept), expected, "?{query} Accept: {accept}");
        }
    }

    #[test]
    fn an_id_is_bounded_before_it_is_read() {
        assert_eq!(content_id("bafkqaaa").unwrap().codec(), 0x55);
        assert_eq!(content_id("Qm").unwrap_err().0, BAD);
        assert_eq!(content_id(&"b".repeat(1 << 20)).unwrap_err().1, "the content id is too long");
    }
}
