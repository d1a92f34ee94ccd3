//! The plans of the statements that a session runs, those inside functions too, as `auto_explain` tells them.
use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};

use crate::{Cluster, Outcome};

const SETTINGS: &str = "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_analyze = on; SET auto_explain.log_timing = off; SET auto_explain.log_level = notice";

/// What a session was told.
#[derive(Debug, Default)]
pub struct Plans(Arc<Mutex<Vec<String>>>);

impl Plans {
    /// A session that is told its plans.
    pub fn of(cluster: &Cluster, db: &str) -> Outcome<(Client, Plans)> {
        let plans = Plans::default();
        let mut config: postgres::Config =
            format!("host={} user=postgres dbname={db}", cluster.socket().display()).parse()?;
        let told = plans.0.clone();
        config.notice_callback(move |notice| {
            if notice.message().contains("plan:\n") {
                told.lock().unwrap_or_else(|e| e.into_inner()).push(notice.message().to_string());
            }
        });
        let mut client = config.connect(NoTls)?;
        client.batch_execute(SETTINGS)?;
        Ok((client, plans))
    }

    /// The plans told since this was asked last.
    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// How many parallel workers served a statement, by its plan.
pub fn workers(plan: &str) -> usize {
    let launched = plan.split("Workers Launched: ").skip(1);
    launched.filter_map(|rest| rest.split_whitespace().next()?.parse::<usize>().ok()).sum()
}
