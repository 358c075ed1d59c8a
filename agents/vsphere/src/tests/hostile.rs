//! Requests that no well-meaning client sends.

use super::{Rig, request};
use proptest::prelude::*;

const COLLECTOR: (&str, &str) = ("PropertyCollector", "propertyCollector");

#[tokio::test]
async fn refuses_what_is_no_call() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    for body in [
        String::new(),
        "nonsense".into(),
        "<a/>".into(),
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".into(),
        request("Login", ("SessionManager", ""), ""),
        request("Login", COLLECTOR, &deep),
        request("Login", COLLECTOR, "").replace("urn:vim25", "urn:other"),
        request("RetrieveProperties", COLLECTOR, "")
            .replace("<_this type=\"PropertyCollector\">propertyCollector</_this>", ""),
    ] {
        let answer = rig.send(Some(&cookie), "urn:vim25/8.0.3.0", body).await;
        assert_eq!(answer.fault(), "InvalidRequest");
    }
}

#[tokio::test]
async fn refuses_bad_arguments() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let many: String = (0..2_000).map(|_| "<propSet><type>Folder</type></propSet>").collect();
    let paths: String = (0..20_000).map(|n| format!("<pathSet>p{n}</pathSet>")).collect();
    for (method, arguments, fault) in [
        ("RetrieveProperties", "<specSet><propSet/></specSet>".to_owned(), "InvalidArgument"),
        ("RetrieveProperties", "<specSet><propSet><type>Folder</type></propSet><objectSet/></specSet>".into(), "InvalidArgument"),
        ("RetrieveProperties", "<specSet><bogus/></specSet>".into(), "InvalidArgument"),
        ("RetrieveProperties", format!("<specSet>{many}</specSet>"), "InvalidArgument"),
        ("RetrieveProperties", format!("<specSet><propSet><type>Folder</type>{paths}</propSet></specSet>"), "InvalidArgument"),
        (
            "RetrieveProperties",
            "<specSet><propSet><type>Folder</type></propSet><objectSet><obj type=\"Folder\">group-d1</obj><selectSet><type>Folder</type>\
             <path>nonsense</path></selectSet></objectSet></specSet>"
                .into(),
            "InvalidProperty",
        ),
        ("RetrievePropertiesEx", "<options><maxObjects>-1</maxObjects></options>".into(), "InvalidArgument"),
        ("ContinueRetrievePropertiesEx", "<token>x</token>".into(), "InvalidArgument"),
        ("CreateFilter", String::new(), "InvalidArgument"),
        ("WaitForUpdatesEx", "<version>x</version>".into(), "InvalidCollectorVersion"),
        ("WaitForUpdatesEx", "<options><maxWaitSeconds>-1</maxWaitSeconds></options>".into(), "InvalidArgument"),
        ("WaitForUpdatesEx", "<options><maxObjectUpdates>0</maxObjectUpdates></options>".into(), "InvalidArgument"),
        ("CheckForUpdates", "<version>9</version>".into(), "InvalidCollectorVersion"),
    ] {
        assert_eq!(rig.call(Some(&cookie), method, COLLECTOR, &arguments).await.fault(), fault, "{method}");
    }
}

#[tokio::test]
async fn bounds_what_a_session_makes() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let views = ("ViewManager", "ViewManager");
    let mut last = 200;
    for _ in 0..=crate::limits::MADE {
        last = rig.call(Some(&cookie), "CreateListView", views, "").await.status;
    }
    assert_eq!(last, 500);
    assert_eq!(
        rig.call(Some(&cookie), "CreatePropertyCollector", COLLECTOR, "").await.fault(),
        "LimitExceeded"
    );
}

#[tokio::test]
async fn reads_every_spelling_of_the_cookie() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let key = cookie.split('"').nth(1).unwrap().to_owned();
    for spelling in [
        cookie.clone(),
        format!("vmware_soap_session={key}"),
        format!("a=b; vmware_soap_session=\"{key}\""),
        format!("vmware_soap_session=\"{key}\"; Path=/; HttpOnly; Secure; "),
    ] {
        assert_eq!(
            rig.call(Some(&spelling), "Reload", ("Folder", "group-d1"), "").await.status,
            200,
            "{spelling}"
        );
    }
    for spelling in [
        "vmware_soap_session=",
        "vmware_soap_session=\"\"",
        "x",
        "vmware_soap_session=zz; vmware_soap_session",
    ] {
        assert_eq!(
            rig.call(Some(spelling), "Reload", ("Folder", "group-d1"), "").await.fault(),
            "NotAuthenticated"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Any arguments to any method: an answer, and one of the two statuses.
    #[test]
    fn answers_anything(
        method in prop::sample::select(vec![
            "RetrieveProperties", "RetrievePropertiesEx", "CreateFilter", "WaitForUpdates", "Fetch", "Login", "CheckForUpdates", "Nonsense",
        ]),
        names in prop::collection::vec(prop::sample::select(vec![
            "specSet", "propSet", "objectSet", "obj", "type", "pathSet", "all", "selectSet", "path", "name", "skip", "prop", "version", "spec",
        ]), 0..12),
        text in "[a-zA-Z0-9.\\[\\]\" -]{0,24}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let rig = Rig::fleet();
            let cookie = rig.login("admin").await;
            let open: String = names.iter().map(|name| format!("<{name}>")).collect();
            let close: String = names.iter().rev().map(|name| format!("</{name}>")).collect();
            let arguments = format!("{open}{text}{close}<prop>{text}</prop><version>{text}</version>");
            let answer = rig.call(Some(&cookie), method, COLLECTOR, &arguments).await;
            assert!(matches!(answer.status, 200 | 500));
            answer.tree();
        });
    }
}
