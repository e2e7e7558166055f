from cxlab.cli import main

main()
