"""A Ray cluster of two nodes on this machine; one is killed when a line comes in on stdin."""

import sys

from ray.cluster_utils import Cluster

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=SMALL)
    doomed = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    print(cluster.address, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(doomed, allow_graceful=False)
        print("killed", flush=True)
    sys.stdin.readline()
    cluster.shutdown()
