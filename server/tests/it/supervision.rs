//! Starting and stopping the process.

use server::{Embedded, EmbeddedOptions};

use crate::harness::{Server, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::in_directory(directory.path()).await;
    let second =
        within("the refusal", Embedded::start(EmbeddedOptions::in_directory(directory.path()))).await;
    let Err(error) = second else { panic!("a second process was let in") };
    assert!(format!("{error:#}").contains("in use by another process"), "{error:#}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_leaves_no_store_behind() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let server = Server::temporary().await;
    let options =
        EmbeddedOptions { listen: server.embedded.address, ..EmbeddedOptions::in_directory(&data_dir) };
    let Err(error) = Embedded::start(options).await else { panic!("the port was free") };
    assert!(error.to_string().contains("cannot listen on"), "{error:#}");
    assert!(!data_dir.exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_is_created_once_and_the_key_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::in_directory(directory.path()).await;
    assert!(server.embedded.admin.created);
    let key = server.embedded.admin.key.clone();
    let saved = std::fs::read_to_string(directory.path().join("admin.key")).unwrap();
    assert_eq!(Some(saved.as_str()), key.as_ref().map(|key| format!("{}\n", key.expose())).as_deref());
    server.stop().await;

    let server = Server::in_directory(directory.path()).await;
    assert!(!server.embedded.admin.created);
    assert_eq!(server.embedded.admin.key, key);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_other_partitions_is_a_matter_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    Server::in_directory(directory.path()).await.stop().await;
    let options = EmbeddedOptions { partitions: Some(3), ..EmbeddedOptions::in_directory(directory.path()) };
    let Err(error) = Embedded::start(options).await else {
        panic!("3 partitions instead of 16 were accepted")
    };
    assert!(error.is::<server::config::ConfigError>(), "{error:#}");
}
