package org.elasticsearch.server.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

import org.elasticsearch.bootstrap.ServerArgs;
import org.elasticsearch.cli.ProcessInfo;
import org.elasticsearch.cli.Terminal;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.SecureString;
import org.elasticsearch.env.Environment;

import joptsimple.OptionSet;

/**
 * Starts the Elasticsearch 9 that search.sh puts together from the jars of Maven Central. Its own
 * command wants tools that are in no jar there: one that sets security up, one that installs
 * plugins, one that traces. Here they do nothing, and the options of the JVM are the few that such
 * a server cannot do without. In this package because the command is not public.
 */
class ElasticsearchStart extends ServerCli {
    private static final List<String> READ_BY_REFLECTION = List.of(
        "core/org.apache.lucene.codecs.lucene99",
        "backward_codecs/org.apache.lucene.backward_codecs.lucene90",
        "backward_codecs/org.apache.lucene.backward_codecs.lucene91",
        "backward_codecs/org.apache.lucene.backward_codecs.lucene92",
        "backward_codecs/org.apache.lucene.backward_codecs.lucene94",
        "backward_codecs/org.apache.lucene.backward_codecs.lucene95"
    );

    @Override
    Environment autoConfigureSecurity(
        Terminal terminal, OptionSet options, ProcessInfo process, Environment env, SecureString key
    ) {
        return env;
    }

    @Override
    void syncPlugins(Terminal terminal, Environment env, ProcessInfo process) {}

    @Override
    protected ServerProcess startServer(Terminal terminal, ProcessInfo process, ServerArgs args)
        throws Exception {
        Path home = Path.of(process.sysprops().get("es.path.home"));
        Path temp = ServerProcessUtils.setupTempDir(process); // all of it may be read: not /tmp
        Path bridge;
        try (var jars = Files.list(home.resolve("lib/entitlement-bridge"))) {
            bridge = jars.findFirst().orElseThrow();
        }
        List<String> options = new ArrayList<>(
            List.of(
                "-Des.path.home=" + home,
                "-Des.distribution.type=tar",
                "-Djava.io.tmpdir=" + temp,
                "-Djava.library.path=" + home.resolve("lib/platform/linux-x64"),
                "--patch-module=java.base=" + bridge,
                "--add-exports=java.base/org.elasticsearch.entitlement.bridge=org.elasticsearch."
                    + "entitlement,java.logging,java.net.http,java.naming,jdk.net",
                "-XX:+EnableDynamicAgentLoading",
                "-Djdk.attach.allowAttachSelf=true",
                "--enable-native-access=org.elasticsearch.nativeaccess,org.apache.lucene.core",
                "--add-modules=jdk.incubator.vector",
                "-Dfile.encoding=UTF-8"
            )
        );
        for (String name : READ_BY_REFLECTION) {
            options.add("--add-opens=org.apache.lucene." + name + "=org.elasticsearch.server");
        }
        options.addAll(List.of(process.envVars().get("ES_JAVA_OPTS").trim().split(" +")));
        return new ServerProcessBuilder().withTerminal(terminal)
            .withProcessInfo(process)
            .withServerArgs(args)
            .withTempDir(temp)
            .withJvmOptions(options)
            .start();
    }

    public static void main(String[] args) throws Exception {
        LogConfigurator.configureESLogging();
        int code = new ElasticsearchStart().main(args, Terminal.DEFAULT, ProcessInfo.fromSystem());
        System.exit(code);
    }
}
