//! A vSphere client over bare sockets: what a client sees, with nothing of a client library in it.
//!
//! One blocking keep-alive connection without TLS. A command is timed as govc and pyVmomi wait for one: the method, a filter on its task,
//! WaitForUpdatesEx until the task has ended.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection.
pub struct Vim {
    stream: BufReader<TcpStream>,
    cookie: String,
    session_manager: String,
    views: String,
    root: String,
    collector: String,
    /// The filter of the last command.
    filter: Option<String>,
}

impl Vim {
    /// Connects and reads the service content.
    pub fn connect(port: u16) -> Vim {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the front listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut vim = Vim {
            stream: BufReader::new(stream),
            cookie: String::new(),
            session_manager: String::new(),
            views: String::new(),
            root: String::new(),
            collector: String::new(),
            filter: None,
        };
        let content = vim.call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance", "");
        vim.session_manager = inner(&content, "sessionManager");
        vim.views = inner(&content, "viewManager");
        vim.root = inner(&content, "rootFolder");
        vim.collector = inner(&content, "propertyCollector");
        vim
    }

    /// Logs in, as soon as there is an engine that answers.
    pub fn login(&mut self, user: &str, password: &str) {
        let manager = self.session_manager.clone();
        let who = format!("<userName>{user}</userName><password>{password}</password>");
        for _ in 0..10_000 {
            let (status, answer) = self.ask("Login", "SessionManager", &manager, &who);
            if status == 200 {
                return;
            }
            assert!(answer.contains("cannot be reached"), "Login: {answer}");
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no engine answered a login");
    }

    /// Another connection of the same session, with a collector of its own.
    pub fn beside(&self, port: u16) -> Vim {
        let mut other = Vim::connect(port);
        other.cookie.clone_from(&self.cookie);
        let collector = other.collector.clone();
        let made = other.call("CreatePropertyCollector", "PropertyCollector", &collector, "");
        other.collector = inner(&made, "returnval");
        other
    }

    /// The VMs: reference and name.
    pub fn vms(&mut self) -> Vec<(String, String)> {
        let (views, root) = (self.views.clone(), self.root.clone());
        let what = format!(
            "<container type=\"Folder\">{root}</container><type>VirtualMachine</type><recursive>true</recursive>"
        );
        let made = self.call("CreateContainerView", "ViewManager", &views, &what);
        let view = inner(&made, "returnval");
        let spec = format!(
            "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type=\"ContainerView\">{view}</obj>\
             <skip>true</skip><selectSet xsi:type=\"TraversalSpec\"><type>ContainerView</type><path>view</path><skip>false</skip></selectSet>\
             </objectSet></specSet><options></options>"
        );
        let collector = self.collector.clone();
        let found = self.call("RetrievePropertiesEx", "PropertyCollector", &collector, &spec);
        assert!(!found.contains("<token>"), "all VMs in one answer");
        found.split("<objects>").skip(1).map(|one| (inner(one, "obj"), inner(one, "val"))).collect()
    }

    /// The cheapest request there is.
    pub fn now(&mut self) {
        self.call("CurrentTime", "ServiceInstance", "ServiceInstance", "");
    }

    /// The cookie of its session, as a header has it.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Reads a VM's power state.
    pub fn state(&mut self, vm: &str) -> String {
        let state = self.call("Fetch", "VirtualMachine", vm, "<prop>runtime.powerState</prop>");
        inner(&state, "returnval")
    }

    /// How tasks ended, by state and fault, `page` of them asked for at a time; those that are kept no more are left out.
    pub fn ends(&mut self, tasks: &[String], page: usize) -> BTreeMap<String, usize> {
        let (mut ends, mut open) = (BTreeMap::new(), tasks.to_vec());
        let begin = Instant::now();
        while !open.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{} tasks have not ended", open.len());
            let mut still = Vec::new();
            for some in open.chunks(page) {
                let objects: String = some
                    .iter()
                    .map(|task| format!("<objectSet><obj type=\"Task\">{task}</obj></objectSet>"))
                    .collect();
                let spec = format!(
                    "<specSet><propSet><type>Task</type><pathSet>info.state</pathSet><pathSet>info.error</pathSet></propSet>{objects}\
                     <reportMissingObjectsInResults>true</reportMissingObjectsInResults></specSet><options></options>"
                );
                let collector = self.collector.clone();
                let found = self.call("RetrievePropertiesEx", "PropertyCollector", &collector, &spec);
                for one in found.split("<objects>").skip(1) {
                    if one.contains(">queued<") || one.contains(">running<") {
                        still.push(inner(one, "obj"));
                        continue;
                    }
                    let fault =
                        one.split_once("<fault xsi:type=\"").and_then(|(_, rest)| rest.split('"').next());
                    *ends.entry(fault.unwrap_or("success").to_owned()).or_insert(0) += 1;
                }
            }
            open = still;
            std::thread::sleep(Duration::from_millis(100));
        }
        ends
    }

    /// Powers a VM on or off and waits for the task's success.
    pub fn power(&mut self, vm: &str, on: bool) {
        let method = if on { "PowerOnVM_Task" } else { "PowerOffVM_Task" };
        let task = self.call(method, "VirtualMachine", vm, "");
        self.wait(&inner(&task, "returnval"), method);
    }

    /// Powers a VM off if it is on.
    pub fn ensure_off(&mut self, vm: &str) {
        if self.state(vm) != "poweredOff" {
            self.power(vm, false);
            self.tidy();
        }
    }

    /// Changes a VM's annotation and waits for the task's success.
    pub fn annotate(&mut self, vm: &str, text: &str) {
        let spec = format!("<spec><annotation>{text}</annotation></spec>");
        let task = self.call("ReconfigVM_Task", "VirtualMachine", vm, &spec);
        self.wait(&inner(&task, "returnval"), "ReconfigVM_Task");
    }

    /// Waits until a VM can be changed: an agent that has just joined is served before the engine knows all of its facts. What was said
    /// until then is printed.
    pub fn changeable(&mut self, vm: &str) {
        for _ in 0..100 {
            let task = self.call(
                "ReconfigVM_Task",
                "VirtualMachine",
                vm,
                "<spec><annotation>first</annotation></spec>",
            );
            let ended = self.end_of(&inner(&task, "returnval"));
            self.tidy();
            match ended {
                Ok(()) => return,
                Err(fault) => println!("not changeable yet: {}", inner(&fault, "localizedMessage")),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the VM cannot be changed");
    }

    fn wait(&mut self, task: &str, method: &str) {
        if let Err(fault) = self.end_of(task) {
            panic!("{method}: {fault}");
        }
    }

    /// Waits for a task as govc does: a filter, and updates until the task has ended.
    fn end_of(&mut self, task: &str) -> Result<(), String> {
        let collector = self.collector.clone();
        let spec = format!(
            "<spec><propSet><type>Task</type><pathSet>info.state</pathSet></propSet><objectSet><obj type=\"Task\">{task}</obj></objectSet></spec>\
             <partialUpdates>false</partialUpdates>"
        );
        let made = self.call("CreateFilter", "PropertyCollector", &collector, &spec);
        self.filter = Some(inner(&made, "returnval"));
        let mut version = String::new();
        loop {
            let at = format!("<version>{version}</version>");
            let update = self.call("WaitForUpdatesEx", "PropertyCollector", &collector, &at);
            if update.contains(">success<") {
                return Ok(());
            }
            if update.contains(">error<") {
                return Err(self.call("Fetch", "Task", task, "<prop>info</prop>"));
            }
            version = inner(&update, "version");
        }
    }

    /// Gives up what the last command was waited for with.
    pub fn tidy(&mut self) {
        if let Some(filter) = self.filter.take() {
            self.call("DestroyPropertyFilter", "PropertyFilter", &filter, "");
        }
    }

    fn call(&mut self, method: &str, kind: &str, this: &str, arguments: &str) -> String {
        let (status, answer) = self.ask(method, kind, this, arguments);
        assert_eq!(status, 200, "{method}: {answer}");
        answer
    }

    fn ask(&mut self, method: &str, kind: &str, this: &str, arguments: &str) -> (u16, String) {
        let body = format!(
            "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><{method} xmlns=\"urn:vim25\">\
             <_this type=\"{kind}\">{this}</_this>{arguments}</{method}></soapenv:Body></soapenv:Envelope>"
        );
        let cookie =
            if self.cookie.is_empty() { String::new() } else { format!("Cookie: {}\r\n", self.cookie) };
        let request = format!(
            "POST /sdk HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml; charset=utf-8\r\nSOAPAction: urn:vim25/8.0.1.0\r\n{cookie}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("the front reads");
        self.answer()
    }

    fn answer(&mut self) -> (u16, String) {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                "set-cookie" => {
                    self.cookie = value.split(';').next().unwrap_or_default().trim().to_owned();
                }
                _ => {}
            }
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = usize::from_str_radix(&self.line(), 16).expect("the size of a part");
                self.take(size, &mut body);
                self.line();
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length, &mut body);
        }
        (status, String::from_utf8(body).expect("text"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(
            self.stream.read_line(&mut line).expect("the front answers") > 0,
            "the front closed the connection"
        );
        line.trim_end().to_owned()
    }

    fn take(&mut self, size: usize, body: &mut Vec<u8>) {
        let at = body.len();
        body.resize(at + size, 0);
        self.stream.read_exact(&mut body[at..]).expect("a whole answer");
    }
}

/// The text of the first element of this name.
fn inner(xml: &str, name: &str) -> String {
    let found = xml.split_once(&format!("<{name}")).and_then(|(_, rest)| rest.split_once('>'));
    let text = found.and_then(|(_, rest)| rest.split_once('<')).map(|(text, _)| text.to_owned());
    text.unwrap_or_else(|| panic!("expected <{name}> in {xml}"))
}
