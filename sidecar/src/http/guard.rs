//! Who may speak at the doors on loopback: programs of this machine, and no web page that a browser shows.
//!
//! A page of any site can send requests to loopback. It cannot hide that a browser sends them: they have an `Origin`, or say by
//! `Sec-Fetch-Site` that another site asks, or were resolved from a name of the page's own site, which is then their `Host`.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use kontrol_core::code::Code;

use super::Problem;
use crate::service::Error;

/// Answers 403 to what a web page sends, and hands on the rest.
pub(crate) async fn programs_only(request: Request, next: Next) -> Response {
    match foreign(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(why) => {
            let error = Error::new(Code::InvalidRequest, request.uri().path(), why);
            Problem::from(error).with_status(403).into_response()
        }
    }
}

/// Why a request is none of a program on this machine.
fn foreign(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(origin) = text(header::ORIGIN) {
        return Some(format!("a web page ({origin}) may not speak for a widget"));
    }
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && site != "none"
    {
        return Some(format!("a web page may not speak for a widget (sec-fetch-site: {site})"));
    }
    let host = text(header::HOST).or_else(|| uri.authority().map(|named| named.as_str().into()))?;
    let local = host.parse::<Authority>().is_ok_and(|named| is_local(named.host()));
    (!local).then(|| format!("the host {host} is neither a loopback address nor localhost"))
}

fn is_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        foreign(&Uri::from_static("/v1/state"), &headers).is_some()
    }

    #[test]
    fn programs_speak_to_loopback_by_any_of_its_names() {
        for host in
            ["127.0.0.1:4012", "127.0.0.1", "127.8.8.8:1", "[::1]:4012", "localhost:4012", "LocalHost"]
        {
            assert!(!refused(&[("host", host)]), "{host}");
        }
        assert!(!refused(&[]));
        assert!(!refused(&[("host", "localhost"), ("sec-fetch-site", "none")]));
    }

    #[test]
    fn pages_and_names_of_elsewhere_are_refused() {
        for host in [
            "example.com",
            "example.com:80",
            "10.0.0.1",
            "[2001:db8::1]:80",
            "localhost.example.com",
            "",
            "a b",
        ] {
            assert!(refused(&[("host", host)]), "{host}");
        }
        for (name, value) in
            [("origin", "https://example.com"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert!(refused(&[("host", "127.0.0.1"), (name, value)]), "{name}: {value}");
        }
    }
}
