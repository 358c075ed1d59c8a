use super::*;
use crate::authority::admin::{AuditLine, SessionLine};
use serde_json::json;

async fn asked(bench: &Bench, request: serde_json::Value) -> Response {
    let answer = bench.authority.admin_json("ctl:alice", request.to_string().as_bytes()).await;
    serde_json::from_slice(&answer).unwrap()
}

fn refused(response: &Response, why: &str) {
    assert!(matches!(response, Response::Refused(said) if said.contains(why)), "{response:?}");
}

fn audit(response: Response) -> Vec<AuditLine> {
    let Response::Audit(lines) = response else { panic!("expected entries: {response:?}") };
    lines
}

#[tokio::test]
async fn as_ctl_sends_it() {
    let bench = Bench::new().await;
    let add = json!({"user-add": {"name": "bob", "password": hashed("bob"), "role": "read-only"}});
    assert_eq!(
        asked(&bench, add.clone()).await,
        Response::Done("user bob added with the role read-only on everything".into())
    );
    refused(&asked(&bench, add).await, "there is already a user bob");
    assert!(asked(&bench, json!({"group-add": {"name": "night", "users": ["bob"]}})).await.is_good());
    assert!(
        asked(&bench, json!({"role-add": {"name": "starter", "verbs": ["PowerOn", "configure"]}}))
            .await
            .is_good()
    );
    let scope = json!({"scope-add": {"scope": {"who": "group:night", "role": "starter", "root": vm(1).to_string(), "kinds": ["vm"]}}});
    let said = asked(&bench, scope).await;
    assert_eq!(said, Response::Done(format!("group:night has the role starter on {}, for vm", vm(1))));
    let Response::Role { verbs, .. } = asked(&bench, json!({"role-show": {"name": "starter"}})).await else {
        panic!("expected a role");
    };
    assert_eq!(verbs.into_iter().collect::<Vec<_>>(), ["PowerOn", "Reconfigure", "RenameVm"]);
    let Response::Users(users) = asked(&bench, json!("user-list")).await else { panic!("expected users") };
    let bob = users.iter().find(|line| line.name == "bob").unwrap();
    assert_eq!((bob.groups.join(" "), bob.roles.join(" ")), ("night".into(), "read-only starter".into()));
    let Response::Scopes(scopes) = asked(&bench, json!({"scope-list": {"who": "group:night"}})).await else {
        panic!("expected scopes");
    };
    let id = *scopes.keys().next().unwrap();
    assert!(asked(&bench, json!({"scope-remove": {"id": id}})).await.is_good());
    assert!(
        asked(
            &bench,
            json!({"template-add": {"name": "tenant", "rows": [{"role": "operator", "place": "folder"}]}})
        )
        .await
        .is_good()
    );
    let misspelt = json!({"template-add": {"name": "t", "rows": [{"role": "operator", "root": "folder"}]}});
    refused(&asked(&bench, misspelt).await, "cannot be read");
    let misspelt =
        json!({"scope-add": {"scope": {"who": "user:bob", "role": "operator", "roots": vm(1).to_string()}}});
    refused(&asked(&bench, misspelt).await, "cannot be read");
    let apply = |roots: serde_json::Value| json!({"template-apply": {"name": "tenant", "who": "user:bob", "roots": roots}});
    refused(&asked(&bench, apply(json!({}))).await, "needs an object for each of: folder");
    refused(&asked(&bench, apply(json!({"folder": "x"}))).await, "is not an object id");
    assert!(asked(&bench, apply(json!({"folder": vm(1).to_string()}))).await.is_good());
    refused(
        &asked(&bench, json!({"user-remove": {"name": "root"}})).await,
        "nobody would have all permissions",
    );
    refused(&asked(&bench, json!({"user-passwd": {"name": "bob", "password": "plain"}})).await, "argon2id");
    refused(&asked(&bench, json!({"user-fly": {}})).await, "ctl and broker must be of one version");
    for list in ["group-list", "role-list", "template-list"] {
        assert!(asked(&bench, json!(list)).await.is_good());
    }
}

#[tokio::test]
async fn sessions_are_listed_and_revoked() {
    let bench = Bench::new().await;
    let (eve, eye) = (bench.login("eve", "east").await, bench.login("eye", "west").await);
    let list = |user: Option<&str>| json!({"session-list": {"user": user}});
    let lines = |response: Response| -> Vec<SessionLine> {
        let Response::Sessions(lines, 0) = response else { panic!("expected sessions: {response:?}") };
        lines
    };
    let all = lines(asked(&bench, list(None)).await);
    assert_eq!(all.len(), 2);
    assert!(!format!("{all:?}").contains(eve.key.expose()));
    let of_eve = lines(asked(&bench, list(Some("eve"))).await);
    assert_eq!(
        (of_eve[0].id.as_str(), of_eve[0].agents.join(" "), of_eve[0].revoked),
        (session(&eve), "east".into(), false)
    );
    assert!(asked(&bench, json!({"session-revoke": {"session": session(&eve)}})).await.is_good());
    assert!(lines(asked(&bench, list(Some("eve"))).await)[0].revoked);
    refused(&asked(&bench, json!({"session-revoke": {"session": session(&eve)}})).await, "no live session");
    refused(&asked(&bench, json!({"session-revoke": {}})).await, "expected a session's id, or a user");
    assert_eq!(
        asked(&bench, json!({"session-revoke": {"user": "eye"}})).await,
        Response::Done("1 sessions revoked".into())
    );
    assert_eq!(*bench.heard.ended.lock(), [session(&eve), session(&eye)]);
}

#[tokio::test]
async fn every_change_is_in_the_audit() {
    let bench = Bench::new().await;
    let before = bench.keep.audit().len();
    bench.login("eve", "east").await;
    asked(&bench, json!({"role-add": {"name": "r", "verbs": ["power"]}})).await;
    asked(&bench, json!({"user-passwd": {"name": "eve", "password": hashed("new")}})).await;
    asked(&bench, json!({"session-revoke": {"user": "eve"}})).await;
    refused(&asked(&bench, json!({"role-remove": {"name": "admin"}})).await, "built in");
    let lines = audit(asked(&bench, json!({"audit-search": {"limit": 3}})).await);
    let said: Vec<_> = lines.iter().map(|l| (l.user.as_str(), l.verb.as_str())).collect();
    assert_eq!(said, [("ctl:alice", "ChangePassword"), ("ctl:alice", "PutRole"), ("eve", "Login")]);
    assert_eq!(bench.keep.audit().len(), before + 3);
    assert!(!format!("{lines:?}").contains("argon2"));
    let more = audit(asked(&bench, json!({"audit-search": {"before": lines[1].seq, "user": "eve"}})).await);
    assert_eq!(more.len(), 1);
    assert_eq!(more[0].remote, HOME.to_string());
    refused(&asked(&bench, json!({"audit-search": {"kind": "starship"}})).await, "no kind of object");
    assert_eq!(asked(&bench, json!("audit-verify")).await, Response::Whole(before as u64 + 3));
}

#[test]
fn requests_show_no_hash() {
    let request = Request::UserAdd { name: "bob".into(), password: hashed("x"), role: None };
    assert!(!format!("{request:?}").contains("argon2"));
}
