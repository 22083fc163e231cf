//! What is wanted is written, and read again is the same.

#[path = "support/wanted.rs"]
mod wanted;

use bpfsmith_config::desired::Desired;
use bpfsmith_config::{Document, edn, json};
use proptest::prelude::*;
use wanted::wanted;

proptest! {
    #[test]
    fn what_is_written_is_read_again(desired in wanted()) {
        let text = desired.text().map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        let read = Document::read(&text)
            .map_err(|problems| TestCaseError::fail(format!("{text}\n{problems}")))?;
        prop_assert_eq!(read.desired().bare(), desired.clone(), "{}", text);
        // The same by way of JSON.
        let text = json::write(&desired.value());
        let read = json::read(&text).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        let read = Desired::read(&read)
            .map_err(|problems| TestCaseError::fail(format!("{text}\n{problems}")))?;
        prop_assert_eq!(read.bare(), desired);
    }

    #[test]
    fn what_is_written_is_written_again(desired in wanted()) {
        let text = desired.text().expect("a text");
        let again = Document::read(&text).expect("a configuration").desired().text();
        prop_assert_eq!(again.expect("a text"), text);
    }
}

/// A configuration of clj-ebpf, and the same here.
fn imported(text: &str) -> String {
    let value = edn::read(text).expect("a text of EDN");
    let desired = Desired::import(&value).unwrap_or_else(|problems| panic!("{problems}"));
    desired.text().expect("a text")
}

#[test]
fn imported_ones_read_well() {
    let simple = r#"{:listen-interfaces ["eth0" "eth1"] :listen-port 80
        :default-target {:ip "10.0.0.1" :port 8080}}"#;
    let wanted = "\
devices = [\"eth0\", \"eth1\"]
port = 80
protocol = [\"tcp\", \"udp\"]
target = \"10.0.0.1:8080\"
";
    assert_eq!(imported(simple), wanted);
    let full = r#"{:proxies
        [{:name "web-proxy" :listen {:interfaces ["eth0"] :port 80}
          :default-target [{:ip "10.0.0.1" :port 8080 :weight 30}
                           {:ip "10.0.0.2" :port 8080 :weight 70}]
          :health-check {:type :http :path "/up" :interval-ms 2000}
          :source-routes [{:source "192.168.1.0/24" :target {:ip "10.0.0.2" :port 8443}}
                          {:source "192.168.2.100" :target {:ip "10.0.0.3" :port 9443}}]}
         {:name "api-proxy" :listen {:interfaces ["eth0" "eth1"] :port 8080}
          :default-target {:ip "10.0.1.1" :port 3000}}]
        :settings {:stats-enabled true :connection-timeout-sec 300 :max-connections 100000}}"#;
    let wanted = "\
[[proxies]]
name = \"web-proxy\"
devices = \"eth0\"
port = 80
protocol = [\"tcp\", \"udp\"]
targets = [
    { address = \"10.0.0.1:8080\", weight = 30 },
    { address = \"10.0.0.2:8080\", weight = 70 },
]
health = { kind = \"http\", path = \"/up\", interval = \"2s\" }

[[proxies.routes]]
source = \"192.168.1.0/24\"
target = \"10.0.0.2:8443\"
health = { kind = \"http\", path = \"/up\", interval = \"2s\" }

[[proxies.routes]]
source = \"192.168.2.100\"
target = \"10.0.0.3:9443\"
health = { kind = \"http\", path = \"/up\", interval = \"2s\" }

[[proxies]]
name = \"api-proxy\"
devices = [\"eth0\", \"eth1\"]
port = 8080
protocol = [\"tcp\", \"udp\"]
target = \"10.0.1.1:3000\"

[settings]
flows = 100000
timeouts = { established = \"5m\", udp = \"5m\" }
events = true
";
    assert_eq!(imported(full), wanted);
}
