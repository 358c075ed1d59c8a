//! Which method of which type is served by what.
//!
//! A method stands here once, at the type that declares it; types below inherit it. Methods with a row in the mapping's commands are
//! not here: they are lifted and performed by their row alone.

use crate::{
    authorization, browser,
    call::{Call, Reply},
    command, environment, events,
    fault::{Answer, Fault},
    inventory::{Catalog, TypeId},
    power,
    property_collector::{self as collector, retrieve, wait},
    search, service, session, task, views_api as views,
};
use rustc_hash::FxHashMap;
use std::{future::Future, pin::Pin};

type Later<'c> = Pin<Box<dyn Future<Output = Answer<Reply>> + Send + 'c>>;

/// How a method is run.
#[derive(Clone, Copy)]
enum Run {
    /// It answers at once.
    Now(fn(&Call<'_>) -> Answer<Reply>),
    /// It may wait.
    Later(for<'c> fn(&'c Call<'_>) -> Later<'c>),
}

macro_rules! now {
    ($run:path) => {
        Run::Now($run)
    };
}

macro_rules! later {
    ($run:path) => {
        Run::Later(|call| Box::pin($run(call)))
    };
}

/// Type, method, what serves it.
const METHODS: &[(&str, &str, Run)] = &[
    ("ServiceInstance", "RetrieveServiceContent", now!(service::content)),
    ("ServiceInstance", "CurrentTime", now!(service::current_time)),
    ("SessionManager", "Login", later!(session::login)),
    ("SessionManager", "Logout", later!(session::logout)),
    ("SessionManager", "SessionIsActive", now!(session::is_active)),
    ("SessionManager", "AcquireCloneTicket", now!(session::acquire_clone_ticket)),
    ("SessionManager", "CloneSession", later!(session::clone_session)),
    ("SessionManager", "TerminateSession", later!(session::terminate)),
    ("AuthorizationManager", "HasPrivilegeOnEntities", now!(authorization::has_on_entities)),
    ("AuthorizationManager", "HasPrivilegeOnEntity", now!(authorization::has_on_entity)),
    ("AuthorizationManager", "HasUserPrivilegeOnEntities", later!(authorization::has_of_user)),
    ("AuthorizationManager", "FetchUserPrivilegeOnEntities", later!(authorization::fetch_of_user)),
    ("AuthorizationManager", "RetrieveAllPermissions", later!(authorization::all)),
    ("AuthorizationManager", "RetrieveEntityPermissions", later!(authorization::of_entity)),
    ("AuthorizationManager", "RetrieveRolePermissions", later!(authorization::of_role)),
    ("ManagedObject", "Fetch", now!(retrieve::fetch)),
    ("PropertyCollector", "RetrieveProperties", later!(retrieve::retrieve_properties)),
    ("PropertyCollector", "RetrievePropertiesEx", later!(retrieve::retrieve_properties_ex)),
    ("PropertyCollector", "ContinueRetrievePropertiesEx", later!(retrieve::continue_retrieve)),
    ("PropertyCollector", "CancelRetrievePropertiesEx", now!(retrieve::cancel_retrieve)),
    ("PropertyCollector", "CreateFilter", now!(wait::create_filter)),
    ("PropertyFilter", "DestroyPropertyFilter", now!(collector::destroy_filter)),
    ("PropertyCollector", "CreatePropertyCollector", now!(collector::create_collector)),
    ("PropertyCollector", "DestroyPropertyCollector", now!(collector::destroy_collector)),
    ("PropertyCollector", "CheckForUpdates", now!(wait::check_for_updates)),
    ("PropertyCollector", "WaitForUpdates", later!(wait::wait_for_updates)),
    ("PropertyCollector", "WaitForUpdatesEx", later!(wait::wait_for_updates_ex)),
    ("PropertyCollector", "CancelWaitForUpdates", now!(wait::cancel_wait)),
    ("ViewManager", "CreateContainerView", now!(views::create_container_view)),
    ("ViewManager", "CreateListView", now!(views::create_list_view)),
    ("ViewManager", "CreateListViewFromView", now!(views::create_list_view_from_view)),
    ("ViewManager", "CreateInventoryView", now!(views::create_inventory_view)),
    ("ListView", "ModifyListView", now!(views::modify_list_view)),
    ("ListView", "ResetListView", now!(views::reset_list_view)),
    ("ListView", "ResetListViewFromView", now!(views::reset_list_view_from_view)),
    ("InventoryView", "OpenInventoryViewFolder", now!(views::open_folder)),
    ("InventoryView", "CloseInventoryViewFolder", now!(views::close_folder)),
    ("View", "DestroyView", now!(views::destroy_view)),
    ("SearchIndex", "FindByUuid", now!(search::by_uuid)),
    ("SearchIndex", "FindAllByUuid", now!(search::all_by_uuid)),
    ("SearchIndex", "FindByInventoryPath", now!(search::by_inventory_path)),
    ("SearchIndex", "FindByDatastorePath", now!(search::by_datastore_path)),
    ("SearchIndex", "FindByDnsName", now!(search::by_dns)),
    ("SearchIndex", "FindAllByDnsName", now!(search::all_by_dns)),
    ("SearchIndex", "FindByIp", now!(search::by_ip)),
    ("SearchIndex", "FindAllByIp", now!(search::all_by_ip)),
    ("SearchIndex", "FindChild", now!(search::child)),
    ("HostDatastoreBrowser", "SearchDatastore_Task", later!(browser::search)),
    ("HostDatastoreBrowser", "SearchDatastoreSubFolders_Task", later!(browser::search_below)),
    ("EnvironmentBrowser", "QueryConfigOptionDescriptor", now!(environment::descriptor)),
    ("EnvironmentBrowser", "QueryConfigOption", now!(environment::option)),
    ("EnvironmentBrowser", "QueryConfigOptionEx", now!(environment::option_ex)),
    ("EnvironmentBrowser", "QueryConfigTarget", now!(environment::target)),
    ("EnvironmentBrowser", "QueryTargetCapabilities", now!(environment::capabilities)),
    ("Datacenter", "PowerOnMultiVM_Task", later!(power::power_on_multi)),
    ("VirtualMachine", "AnswerVM", now!(power::answer)),
    ("ManagedEntity", "Reload", now!(service::reload)),
    ("Task", "CancelTask", now!(task::cancel)),
    ("TaskManager", "CreateCollectorForTasks", now!(task::create_collector)),
    ("TaskHistoryCollector", "ReadNextTasks", now!(task::read_next)),
    ("TaskHistoryCollector", "ReadPreviousTasks", now!(task::read_previous)),
    ("EventManager", "QueryEvents", now!(events::query)),
    ("EventManager", "CreateCollectorForEvents", now!(events::create_collector)),
    ("EventHistoryCollector", "ReadNextEvents", now!(events::read_next)),
    ("EventHistoryCollector", "ReadPreviousEvents", now!(events::read_previous)),
    ("HistoryCollector", "SetCollectorPageSize", now!(events::set_page_size)),
    ("HistoryCollector", "ResetCollector", now!(events::reset)),
    ("HistoryCollector", "RewindCollector", now!(events::rewind)),
    ("HistoryCollector", "DestroyCollector", now!(events::destroy)),
];

/// Methods that answer without a session; what they then say is their own affair.
const OPEN: &[&str] =
    &["RetrieveServiceContent", "CloneSession", "Fetch", "RetrieveProperties", "RetrievePropertiesEx"];

/// So do all ways to log in, whether they are served or not.
const LOGIN: &str = "Login";

/// The methods of one view.
pub(crate) struct Methods {
    by_name: FxHashMap<&'static str, Vec<(TypeId, Run)>>,
    /// `Type.method` that the view's product knows by name only.
    unimplemented: Vec<String>,
}

impl Methods {
    /// All that the schema has.
    pub(crate) fn new(catalog: &Catalog) -> Methods {
        let mut by_name: FxHashMap<&'static str, Vec<(TypeId, Run)>> = FxHashMap::default();
        for (ty, name, run) in METHODS {
            if let Some(ty) = catalog.managed(ty) {
                by_name.entry(name).or_default().push((ty, *run));
            }
        }
        Methods { by_name, unimplemented: catalog.constants("not_implemented") }
    }

    /// Whether a method answers without a session.
    pub(crate) fn is_open(&self, method: &str) -> bool {
        OPEN.contains(&method) || method.starts_with(LOGIN)
    }

    /// Runs a call, or says in the product's words why not.
    pub(crate) async fn dispatch(&self, call: &Call<'_>) -> Answer<Reply> {
        let catalog = call.catalog();
        let own = call.receiver_type().ok_or_else(|| Fault::not_found(call.this.clone()))?;
        let named = format!("{}.{}", catalog.type_name(own), call.method);
        if self.unimplemented.contains(&named) {
            return Err(Fault::not_implemented(call.method));
        }
        let served =
            self.by_name.get(call.method).and_then(|runs| runs.iter().find(|(ty, _)| catalog.is_a(own, *ty)));
        match served {
            Some((_, Run::Now(run))) => run(call),
            Some((_, Run::Later(run))) => run(call).await,
            None => match command::of(call, own) {
                Some(command) => command::run(call, &command).await,
                None if catalog.has_method(own, call.method) => Err(Fault::not_supported(call.method)),
                None if catalog.any_has_method(call.method) => {
                    Err(Fault::method_not_found(call.this.clone(), call.method))
                }
                None => Err(Fault::invalid_request(format!(
                    "Unable to resolve the WSDL method name {}",
                    call.method
                ))),
            },
        }
    }
}
