//! The servers start, crash, come back and leave nothing behind.

use test_services::{Durability, NatsServer, NatsVersion, PostgresServer, database};

#[tokio::test]
async fn each_database_of_the_shared_postgres_is_another() {
    let (first, second) = (database().await.unwrap(), database().await.unwrap());
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_postgres_that_crashed_comes_back_with_what_it_had() {
    let mut server = PostgresServer::start(Durability::Fsync).await.unwrap();
    server.sql("postgres", "create table t as select 1 as a").await.unwrap();
    let before = server.pid().unwrap();
    server.stop_immediately().await.unwrap();
    assert!(server.sql("postgres", "select 1").await.is_err());
    server.start_again().await.unwrap();
    assert_ne!(server.pid().unwrap(), before);
    assert_eq!(server.sql("postgres", "select a from t").await.unwrap().trim(), "1");
}

#[tokio::test]
async fn a_nats_server_that_was_killed_comes_back_on_its_port() {
    for version in [NatsVersion::Old, NatsVersion::New] {
        let mut server = NatsServer::start(version).await.unwrap();
        let (url, folder) = (server.url(), server.store_folder().parent().unwrap().to_owned());
        server.kill().await.unwrap();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.is_err());
        server.wipe_store().await.unwrap();
        server.start_again().await.unwrap();
        assert_eq!(server.url(), url);
        drop(server);
        assert!(!folder.exists(), "its folder goes with it");
    }
}
