"""A Ray cluster on the loopback interface: a head without processors, and two nodes. Run by test_cluster.

python two_nodes.py PROCESSORS      prints the address and the process ids of both nodes' raylets; each line on standard
input kills the second node, as a machine that is switched off; the end of standard input ends all.
"""

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listen on loopback alone

from ray.cluster_utils import Cluster

STORE = 80 * 2**20

cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
)
nodes = [cluster.add_node(num_cpus=int(sys.argv[1]), object_store_memory=STORE) for _ in range(2)]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(cluster.address, *raylets, flush=True)
for _ in sys.stdin:
    cluster.remove_node(nodes[1], allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
