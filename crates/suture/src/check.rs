//! `suture check`.

use suture_config::Pipeline;

pub fn parse(_name: &str, bytes: &[u8]) -> Result<Pipeline, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

pub fn render(problems: &str) -> String {
    problems.to_owned()
}
