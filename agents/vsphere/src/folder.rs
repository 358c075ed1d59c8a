//! `/folder/…`: a datastore's files over HTTP. The one file there is for a VM is its configuration, `<directory>/<name>.vmx`, which is
//! made when it is asked for.
//!
//! Callers show a session's cookie, or a name and password (Basic).

use crate::{
    front::{Front, page, unavailable},
    permission::Sight,
    search,
    serve::PROTOCOL,
    tree::unescape,
    vmx,
};
use ::front::Peer;
use base64::Engine;
use bytes::Bytes;
use guard::{Applicant, LoginError, Pass, Secret};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

/// Answers `GET` and `HEAD`.
pub(crate) async fn answer(front: &Front, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let who = match who(front, &request).await {
        Ok(who) => who,
        Err(error) => return unavailable(&error),
    };
    let Some(pass) = who else {
        let mut refused =
            page(StatusCode::UNAUTHORIZED, "text/plain", Bytes::from_static(b"401 Unauthorized\n"));
        let realm = http::HeaderValue::from_static("Basic realm=\"VMware HTTP server\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        return refused;
    };
    let missing = || page(StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"404 Not Found\n"));
    let file = unescape(request.uri().path().strip_prefix("/folder/").unwrap_or_default());
    let query = request.uri().query().unwrap_or_default();
    let Some(pool) = parameter(query, "dsName") else { return missing() };
    let datacenter = parameter(query, "dcPath");
    let Some(vm) = search::by_file(&front.catalog, datacenter.as_deref(), &pool, &file) else {
        return missing();
    };
    if !Sight::new(front, &pass).sees(vm) {
        return page(StatusCode::FORBIDDEN, "text/plain", Bytes::from_static(b"403 Forbidden\n"));
    }
    let Some(text) = vmx::render(&front.catalog, vm) else { return missing() };
    let length = text.len();
    let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(text) };
    let mut response = page(StatusCode::OK, "application/octet-stream", body);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// Who asks; nobody: neither a session nor a name and password that are right.
async fn who(front: &Front, request: &Request<Incoming>) -> Result<Option<Pass>, LoginError> {
    let headers = request.headers();
    let Some(remote) = request.extensions().get::<Peer>().map(|peer| peer.remote.ip()) else {
        return Ok(None);
    };
    if let Some(session) = front.session_of(headers, remote, "").await? {
        return Ok(Some(session.pass.clone()));
    }
    let Some((user, password)) = headers.get(header::AUTHORIZATION).and_then(basic) else { return Ok(None) };
    let applicant = Applicant { user: &user, password: &password, remote, protocol: PROTOCOL };
    match front.sessions.logins().login(applicant).await {
        Ok(pass) => {
            // The login is for this one answer.
            front.sessions.logins().end(&pass).await;
            Ok(Some(pass))
        }
        Err(LoginError::Busy) => Err(LoginError::Busy),
        Err(_) => Ok(None),
    }
}

fn basic(value: &http::HeaderValue) -> Option<(String, Secret)> {
    let basic = value.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(basic.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), Secret::new(password)))
}

/// One parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    Some(unescape(&value.replace('+', " ")))
}
