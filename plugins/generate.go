package plugins

// Needs protoc 3.21, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.6.2.
//
//go:generate protoc --go_out=.. --go_opt=module=github.com/posthorn/posthorn --go-grpc_out=.. --go-grpc_opt=module=github.com/posthorn/posthorn -I . plugin.proto
