//! The one part of a form that holds a block (RFC 7578).

use axum::http::{HeaderMap, header};
use bytes::Bytes;

/// The bytes of the only part of the form in `body`.
pub(super) fn single_part(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, &'static str> {
    let boundary = boundary(headers).ok_or("this is no multipart form with a boundary")?;
    let opening = format!("--{boundary}\r\n");
    let closing = format!("\r\n--{boundary}--");
    let part = body.strip_prefix(opening.as_bytes()).ok_or("the form does not begin")?;
    let part = part.strip_suffix(b"\r\n").unwrap_or(part);
    let part = part.strip_suffix(closing.as_bytes()).ok_or("the form does not end")?;
    let blank = part.windows(4).position(|four| four == b"\r\n\r\n");
    let (header, content) = part.split_at(blank.ok_or("the part has no header")?);
    // Otherwise the first lines of a block would be taken for the header, and silently dropped.
    let is_header = |header: &str| header.split("\r\n").all(|line| line.contains(':'));
    if !str::from_utf8(header).is_ok_and(is_header) {
        return Err("the part has no header");
    }
    let content = &content[4..];
    let another = format!("\r\n--{boundary}\r\n");
    if content.windows(another.len()).any(|found| found == another.as_bytes()) {
        return Err("the form has more than one part");
    }
    Ok(body.slice_ref(content))
}

fn boundary(headers: &HeaderMap) -> Option<&str> {
    let mut parts = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parts.find_map(|part| part.strip_prefix("boundary="))?.trim_matches('"');
    // RFC 2046 has the length.
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &'static str) -> Result<Bytes, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        single_part(&headers, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn one_part_is_read_whatever_its_bytes() {
        const TYPE: &str = "multipart/form-data; boundary=\"x\"";
        for (body, part) in [
            ("--x\r\nA: b\r\n\r\nblock\r\n--x--\r\n", "block"),
            ("--x\r\nA: b\r\n\r\nblock\r\n--x--", "block"),
            ("--x\r\nA: b\r\n\r\n\r\n--x--\r\n", ""),
            ("--x\r\nA: b\r\n\r\n\r\n\r\n--y\r\n\r\n--x--\r\n", "\r\n\r\n--y\r\n"),
        ] {
            assert_eq!(read(TYPE, body).unwrap(), part);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        const TYPE: &str = "multipart/form-data; boundary=x";
        for body in [
            "",
            "block",
            "--x\r\nA: b\r\n\r\nblock",
            "--x\r\nblock\r\n--x--\r\n",
            "--x--",
            "--x\r\n\r\n--x--",
            "--x\r\n\r\n\r\n--x--",
            "--x\r\n\r\none\r\n\r\ntwo\r\n--x--\r\n",
            "--x\r\none\r\n\r\ntwo\r\n--x--\r\n",
            "--x\r\nA: b\r\none\r\n\r\ntwo\r\n--x--\r\n",
            "--x\r\nA: b\r\n\r\none\r\n--x\r\nA: b\r\n\r\ntwo\r\n--x--\r\n",
        ] {
            assert!(read(TYPE, body).is_err(), "{body:?}");
        }
        let body = "--x\r\nA: b\r\n\r\nblock\r\n--x--\r\n";
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for content_type in
            ["text/plain", "multipart/form-data", "multipart/form-data; boundary=", &long]
        {
            assert!(read(content_type, body).is_err(), "{content_type}");
        }
    }
}
