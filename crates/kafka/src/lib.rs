//! The log on Apache Kafka: everything rdkafka is here
