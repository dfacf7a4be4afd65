//! stub
use crate::protocol::Protocol;
use crate::translate::Object;
pub fn interaction_id(_client: Protocol, _body: &Object, _session: Option<&str>) -> Option<String> {
    None
}
