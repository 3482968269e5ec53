//! The engine's parts with a daemon that answers as it likes.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use bollard::{API_DEFAULT_VERSION, Docker};
use roadstead_core::ports::{Phase, Usage};
use roadstead_types::{ImageId, ImageKey, InstanceId, JobId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    client::Client, images::Images, instances::Instances, names::NameFiles, record::Record,
    record::Records,
};

/// A daemon that answers with status and JSON what `answer` says to the first line of a request, or never.
async fn daemon(answer: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answer)));
        }
    });
    let docker = Docker::connect_with_http(&address.to_string(), 60, API_DEFAULT_VERSION).unwrap();
    Client { docker, name: "roadstead-test".to_owned() }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Option<(u16, String)>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let answer = answer(head.lines().next().unwrap());
    let Some((status, body)) = answer else { return std::future::pending().await };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
}

fn says(status: u16, text: &str) -> Option<(u16, String)> {
    Some((status, format!("{{\"message\": \"{text}\"}}")))
}

fn id() -> InstanceId {
    InstanceId::first(JobId(B256::ZERO))
}

/// The instances in `home`, of which one is there and is container `c`.
async fn instances(client: Client, home: &Path) -> Arc<Instances> {
    let files = (Records::open(home).unwrap(), NameFiles::open(home).unwrap());
    let image = ImageKey { tenant: Address::ZERO, image: ImageId(B256::ZERO) };
    let mut record = Record::new(image, "c".to_owned(), 1);
    record.storage = Some(1);
    files.0.write(&id(), &record).await.unwrap();
    let images = Arc::new(Images::new(client.clone()));
    Arc::new(Instances::new(client, images, files, false))
}

#[tokio::test]
async fn a_container_that_is_going_is_waited_for() {
    let looks = Arc::new(AtomicUsize::new(0));
    let looked = Arc::clone(&looks);
    let client = daemon(move |request| {
        if request.starts_with("DELETE") {
            return says(409, "removal of container c is already in progress");
        }
        match looked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Some((200, "{}".to_owned())),
            _ => says(404, "No such container: c"),
        }
    })
    .await;
    client.remove("c").await.unwrap();
    assert_eq!(looks.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_no_engine_from_opening() {
    let home = tempfile::tempdir().unwrap();
    let removals = Arc::new(AtomicUsize::new(0));
    let removed = Arc::clone(&removals);
    let client = daemon(move |request| match request {
        request if request.starts_with("DELETE") => {
            removed.fetch_add(1, Ordering::Relaxed);
            says(500, "it is stuck")
        }
        request if request.contains("/networks") => Some((200, "[]".to_owned())),
        _ => {
            let list = ["c", "left", "other"].map(|id| format!("{{\"Id\": \"{id}\"}}"));
            Some((200, format!("[{}]", list.join(","))))
        }
    })
    .await;
    instances(client, home.path()).await.sweep().await.unwrap();
    assert_eq!(removals.load(Ordering::Relaxed), 2, "that of the instance stays");
}

#[tokio::test]
async fn an_instance_is_observed_while_what_it_wrote_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let counts = Arc::new(Notify::new());
    let counted = Arc::clone(&counts);
    let client = daemon(move |request| {
        if request.contains("size=true") {
            counted.notify_one();
            return None;
        }
        Some((200, r#"{"State": {"Running": true}}"#.to_owned()))
    })
    .await;
    let instances = instances(client, home.path()).await;
    for _ in 0..3 {
        let observed = instances.observe(&id()).await.unwrap().unwrap();
        assert_eq!(observed.phase, Phase::Running);
    }
    counts.notified().await;
}

#[tokio::test]
async fn what_docker_cannot_read_is_no_reading() {
    let home = tempfile::tempdir().unwrap();
    let reads = AtomicUsize::new(0);
    let client = daemon(move |request| {
        if !request.contains("/stats") {
            return Some((200, r#"{"State": {"Running": true}}"#.to_owned()));
        }
        let networks = r#""networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}}"#;
        let stats = match reads.fetch_add(1, Ordering::Relaxed) {
            0 => r#"{"cpu_stats": {"cpu_usage": {"total_usage": 0}}}"#.to_owned(),
            1 => format!(
                "{{\"cpu_stats\": {{\"cpu_usage\": {{\"total_usage\": 7000000}}}}, {networks}}}"
            ),
            _ => format!("{{{networks}}}"),
        };
        Some((200, stats))
    })
    .await;
    let instances = instances(client, home.path()).await;
    let id = id();
    let read = || instances.usage(&id);
    assert_eq!(read().await.unwrap(), Usage::default());
    let all = Usage { cpu: Some(7), network_in: Some(5), network_out: Some(6) };
    assert_eq!(read().await.unwrap(), all);
    assert_eq!(read().await.unwrap(), Usage { cpu: None, ..all });
}
