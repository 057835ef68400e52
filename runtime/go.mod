module github.com/skerry-dev/skerry/runtime

go 1.26.6

require (
	github.com/containerd/containerd/v2 v2.4.2 // indirect
	github.com/containernetworking/plugins v1.9.1 // indirect
)
