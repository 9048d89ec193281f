"""A pod inside a program of your own: start it, use it, and see how it takes its end."""

import asyncio

from supervisor import PodFailed, Supervisor

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers:
    - name: count
      command: [sh, -c, "trap 'echo closing; exit 0' TERM; while :; do echo tick; sleep 0.1; done"]
"""


async def main() -> None:
    async with Supervisor() as node:
        counter = await node.run(POD)  # a path, a text, a dict, a typed Pod, or a command
        await counter.wait_ready(timeout=10)
        done = await counter.exec("count", ["echo", "hello"])
        print("exec:", done.output.strip())
        report = await counter.terminate()
        print("exit code:", report.exit_code, "killed:", report.killed)
        print("last words:", counter.output().splitlines()[-1])

        broken = await node.run(["sh", "-c", "echo no database; exit 3"], name="broken")
        try:
            await broken.wait()
        except PodFailed as error:
            print(f"{error.pod}: exit code {error.exit_code}, {error.log_lines[-1]}")


asyncio.run(main())
